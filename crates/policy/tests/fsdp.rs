//! Shards of FSDP are put together exactly, or refused by name; nothing of their pickles is run.
#![allow(clippy::unwrap_used, reason = "test helpers fail by panicking")]

mod samples;
mod torch_writer;

use half::bf16;
use seele_policy::huggingface::WeightType;
use seele_policy::model::{Model, ModelFiles};
use seele_random::Key;
use std::fs;
use std::path::{Path, PathBuf};
use torch_writer::{Distributed, Kind, Local, Pickle, Placement, Sharding, encode, write_archive};

/// Checkpoints of `scripts/verl_fixtures.py`, and the model that they are of.
fn of_torch() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fsdp")
}

/// As a model keeps its weights in bfloat16.
fn rounded(model: &Model) -> Vec<f32> {
    let values = model.parameters.values.iter();
    values
        .map(|value| bf16::from_f32(*value).to_f32())
        .collect()
}

#[test]
fn shards_written_by_torch_give_exactly_the_weights() {
    let expected = Model::load(&of_torch().join("model")).unwrap();
    for (name, is_bf16) in [("fsdp2-2-bf16", true), ("fsdp1-sharded-2-f32", false)] {
        let files = ModelFiles::open(&of_torch().join(name)).unwrap();
        let stored = if is_bf16 {
            WeightType::Bf16
        } else {
            WeightType::F32
        };
        assert_eq!(files.weight_type(), stored, "{name}");
        let values = match is_bf16 {
            true => rounded(&expected),
            false => expected.parameters.values.clone(),
        };
        let found = files.read().unwrap();
        assert!(found.parameters.values == values, "{name}");
        assert_eq!(found.config, expected.config);
    }
}

#[test]
fn every_kind_of_share_gives_exactly_the_weights() {
    let untied = samples::llama();
    let kinds = [
        Kind::Rows,
        Kind::OldRows,
        Kind::Columns,
        Kind::Hybrid,
        Kind::Sharded,
        Kind::Plain,
        Kind::PlainWhole,
    ];
    for kind in kinds {
        // 5 does not divide the 48 rows of a projection, nor 7 the 264 of the embedding.
        for (ranks, is_bf16) in [(1, false), (2, true), (4, false), (5, true), (7, false)] {
            if kind == Kind::Hybrid && ranks % 2 == 1 {
                continue;
            }
            let scratch = tempfile::tempdir().unwrap();
            let sharding = Sharding {
                kind,
                ranks,
                is_bf16,
                ..Sharding::default()
            };
            sharding.write(&untied, scratch.path());
            let found = Model::load(scratch.path()).unwrap();
            let expected = match is_bf16 {
                true => rounded(&untied),
                false => untied.parameters.values.clone(),
            };
            let same = found.parameters.values == expected;
            assert!(same, "{kind:?} of {ranks}");
        }
    }
}

#[test]
fn a_tied_model_may_keep_its_output_projection_and_wrappers_their_names() {
    let tied = samples::qwen2();
    for with_output in [false, true] {
        let scratch = tempfile::tempdir().unwrap();
        let sharding = Sharding {
            with_output,
            prefix: "_fsdp_wrapped_module._orig_mod.",
            ..Sharding::default()
        };
        sharding.write(&tied, scratch.path());
        let found = Model::load(scratch.path()).unwrap();
        assert!(found.parameters.values == tied.parameters.values);
    }
}

/// The message about a checkpoint of two ranks after `damage` to its shards.
fn refusal(sharding: &Sharding<'_>, damage: impl FnOnce(&[PathBuf])) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let files = sharding.write(&samples::llama(), scratch.path());
    damage(&files);
    let message = Model::load(scratch.path()).unwrap_err().to_string();
    message.replace(&*scratch.path().to_string_lossy(), "DIR")
}

/// Changes one byte from the end of the first appearance of `text` on.
fn flip(path: &Path, text: &[u8], after: usize) {
    let mut bytes = fs::read(path).unwrap();
    let found = bytes.windows(text.len()).position(|window| window == text);
    bytes[found.unwrap() + text.len() + after] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn damage_is_named() {
    let rows = Sharding::default();
    let message = refusal(&rows, |files| fs::remove_file(&files[1]).unwrap());
    assert!(
        message.contains("`model_world_size_2_rank_1.pt` is missing"),
        "{message}"
    );

    let message = refusal(&rows, |files| flip(&files[1], b"model/data/3", 40));
    assert_eq!(
        message,
        "`DIR/model_world_size_2_rank_1.pt` is damaged: `data/3` does not have its CRC-32; copy or download the file again"
    );
    let message = refusal(&rows, |files| flip(&files[0], b"model/data.pkl", 40));
    assert!(
        message.contains("rank_0.pt` is damaged: `data.pkl` does not have its CRC-32"),
        "{message}"
    );

    let message = refusal(&rows, |files| {
        let bytes = fs::read(&files[0]).unwrap();
        fs::write(&files[0], &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(
        message.contains("rank_0.pt` is damaged: it is no zip archive"),
        "{message}"
    );
    let message = refusal(&rows, |files| {
        fs::write(&files[1], "<!DOCTYPE html>").unwrap()
    });
    assert!(
        message.contains("rank_1.pt` is damaged: it is no zip archive"),
        "{message}"
    );
}

#[test]
fn a_changed_byte_is_refused_or_changes_nothing() {
    let model = samples::llama();
    let scratch = tempfile::tempdir().unwrap();
    let files = Sharding::default().write(&model, scratch.path());
    let bytes = fs::read(&files[1]).unwrap();
    let mut refused = 0;
    for index in 0..200 {
        let draw = Key::new(5).with(index);
        // Half of them in the last fifth, where the table of contents is.
        let share = match index % 2 {
            0 => draw.uniform(),
            _ => 1.0 - 0.2 * draw.uniform(),
        };
        let mut changed = bytes.clone();
        changed[(share * (bytes.len() - 1) as f64) as usize] ^= 1 << (index % 8);
        fs::write(&files[1], changed).unwrap();
        match Model::load(scratch.path()) {
            Ok(found) => assert!(found.parameters.values == model.parameters.values),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn shards_that_do_not_belong_together_are_named() {
    let whole = Sharding {
        kind: Kind::PlainWhole,
        ..Sharding::default()
    };
    let other = |kind: Kind| {
        let mut model = samples::llama();
        model.parameters.values[5] += 1.0;
        move |files: &[PathBuf]| {
            let scratch = tempfile::tempdir().unwrap();
            let sharding = Sharding {
                kind,
                ..Sharding::default()
            };
            let written = sharding.write(&model, scratch.path());
            fs::copy(&written[1], &files[1]).unwrap();
        }
    };
    let message = refusal(&whole, other(Kind::PlainWhole));
    assert!(
        message.contains(
            "rank_1.pt`: tensor `model.embed_tokens.weight` is not the same as in the other ranks"
        ),
        "{message}"
    );
    let message = refusal(&whole, other(Kind::Rows));
    assert!(
        message.contains("tensor `lm_head.weight` is a plain tensor in some ranks only"),
        "{message}"
    );
    // Twice the second half.
    let message = refusal(&Sharding::default(), |files| {
        fs::copy(&files[1], &files[0]).unwrap();
    });
    assert!(
        message.contains("is not whole: no rank holds some of its values"),
        "{message}"
    );
}

/// A checkpoint of one rank with this pickle and these records in place of its own.
fn refusal_of(pickle: &[u8], records: &[Vec<u8>]) -> String {
    let one = Sharding {
        ranks: 1,
        ..Sharding::default()
    };
    refusal(&one, |files| write_archive(&files[0], pickle, records))
}

fn norm(stored: usize, shape: Vec<usize>, strides: Vec<usize>) -> Local {
    Local {
        class: "FloatStorage",
        record: 0,
        stored,
        first: 0,
        shape,
        strides,
    }
}

#[test]
fn what_cannot_be_put_together_is_named() {
    let records = [encode(&[1.0; 48], false)];
    let dtensor = |placement| {
        let mut pickle = Pickle::new();
        let of = Distributed {
            shape: &[48],
            placements: &[placement],
            coordinates: &[0],
            old_names: false,
        };
        let local = norm(48, vec![48], vec![1]);
        pickle.raw(b"}").text("model.norm.weight");
        pickle.dtensor(&of, &local).raw(b"s").finish()
    };
    for name in ["Partial", "_StridedShard"] {
        let message = refusal_of(&dtensor(Placement::Other(name)), &records);
        let expected = format!("`placement of model.norm.weight` = {name} is not supported");
        assert!(message.contains(&expected), "{message}");
    }
    let message = refusal_of(&dtensor(Placement::Shard(5)), &records);
    assert!(
        message.contains("is cut along no dimension of its own"),
        "{message}"
    );

    let plain = |name: &str, local: &Local| {
        let mut pickle = Pickle::new();
        pickle.raw(b"}").text(name).tensor(local).raw(b"s").finish()
    };
    for (local, expected) in [
        (
            norm(40, vec![40], vec![1]),
            "has a record of another length",
        ),
        (
            norm(48, vec![49], vec![1]),
            "reaches past the end of its record",
        ),
        (
            norm(48, vec![1 << 30, 1 << 30], vec![0, 0]),
            "reaches past the end of its record",
        ),
        (
            norm(48, vec![6, 8], vec![1, 6]),
            "has strides [1, 6], which are not supported",
        ),
        (
            norm(48, vec![2, 2, 12], vec![24, 12, 1]),
            "has a size that no tensor of a decoder has",
        ),
        (
            Local {
                record: 7,
                ..norm(48, vec![48], vec![1])
            },
            "has numbers in a record that is not in the file",
        ),
    ] {
        let message = refusal_of(&plain("model.norm.weight", &local), &records);
        assert!(
            message.contains("tensor `model.norm.weight` ") && message.contains(expected),
            "{message}"
        );
    }
    let local = norm(48, vec![48], vec![1]);
    let message = refusal_of(&plain("model.norm.weight", &local), &records);
    assert!(
        message.contains("does not hold tensor `model.embed_tokens.weight`"),
        "{message}"
    );
    let adapter = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight";
    let message = refusal_of(&plain(adapter, &local), &records);
    assert!(
        message.contains("an adapter beside the weights"),
        "{message}"
    );
    let integers = Local {
        class: "LongStorage",
        ..norm(48, vec![48], vec![1])
    };
    let mut pickle = Pickle::new();
    pickle.raw(b"}(");
    for spec in samples::llama().parameters.layout().tensors() {
        let strides = if spec.shape.len() == 1 {
            vec![0]
        } else {
            vec![0, 0]
        };
        pickle.text(&spec.name).tensor(&Local {
            shape: spec.shape.iter().map(|_| 1).collect(),
            strides,
            ..norm(48, vec![], vec![])
        });
    }
    pickle.text("model.norm.weight").tensor(&integers);
    let message = refusal_of(&pickle.raw(b"u").finish(), &records);
    assert!(
        message.contains("holds tensor `model.norm.weight` twice"),
        "{message}"
    );
}

#[test]
fn a_pickle_that_would_run_something_is_refused_by_name() {
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch.utils.data", "DataLoader"),
        ("torch.distributed.tensor.placement_types", "Shard.__init__"),
    ] {
        let mut pickle = Pickle::new();
        pickle
            .raw(b"}")
            .text("model.norm.weight")
            .global(module, name);
        let pickle = pickle.text("touch /tmp/gone").raw(b"\x85Rs").finish();
        let message = refusal_of(&pickle, &[]);
        let expected = format!(
            "`DIR/model_world_size_1_rank_0.pt` asks for `{module}.{name}` (byte 25 of its pickle), which no weights need; nothing of it was run"
        );
        assert!(message.starts_with(&expected), "{message}");
    }
}
