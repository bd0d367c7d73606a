use super::*;
use seele_policy::config::Family;
use seele_policy::decoder::Recompute;
use seele_policy::model::Model;
use seele_policy::parameters::Parameters;
use seele_policy::tokenizer::Tokenizer;

fn model() -> Model {
    let tokenizer = Tokenizer::characters("0123456789+-*=").unwrap();
    let config = ModelConfig {
        family: Family::Llama,
        vocab_size: tokenizer.vocab_size(),
        hidden_size: 32,
        intermediate_size: 48,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: None,
        max_position_embeddings: 128,
        tied: true,
        qkv_bias: false,
        qk_norm: false,
        bos_token_id: None,
        eos_token_ids: vec![1],
    };
    Model {
        parameters: Parameters::random(&config, Key::new(1)),
        config,
        tokenizer,
        chat_template: None,
    }
}

const WORK: Work = Work {
    batch: 6,
    share: 3,
    prompt_tokens: 7,
    hint_tokens: 2,
    new_tokens: 5,
};

const MEASURING: Measuring = Measuring {
    runs: 3,
    threads: 2,
    compute: Compute::F32,
    tokens_per_microbatch: 21,
    recompute: Recompute::None,
    device: seele_policy::device::DeviceChoice::Cpu,
};

fn check(report: &Report, phases: &[&str]) {
    let names: Vec<&str> = report.phases.iter().map(|phase| phase.name).collect();
    assert_eq!(names, phases);
    assert_eq!(report.runs.len(), 3);
    assert_eq!(report.seconds, median(report.runs.clone()));
    assert!(report.tokens_per_second > 0.0 && report.ceiling_share > 0.0);
    assert!(report.phases.iter().all(|phase| phase.floor_seconds > 0.0));
    // On the CPU the peak is what was measured.
    assert_eq!(report.peak.source, PeakSource::Measured);
    assert_eq!(report.peak.gb_per_second, report.read_gb_per_second);
    let ceilings = report.product_ceilings.iter();
    let best = ceilings.fold(0.0, |best: f64, ceiling| best.max(ceiling.gflops));
    assert_eq!(report.peak.tflops, best / 1e3);
    for phase in &report.phases {
        let flops = phase.operations / phase.seconds;
        assert_eq!(phase.flop_utilisation, flops / (report.peak.tflops * 1e12));
        let moved = phase.bytes / phase.seconds;
        assert_eq!(
            phase.bandwidth_share,
            moved / (report.peak.gb_per_second * 1e9)
        );
    }
}

#[test]
fn decoding_and_training_are_measured_with_their_floors() {
    let decoded = decode(model(), &WORK, MEASURING).unwrap();
    check(&decoded, &["prefill", "decode", "draw"]);
    let trained = train(model(), &WORK, MEASURING).unwrap();
    check(&trained, &["forward and backward", "optimizer"]);
    // Two trunks of 9, six branches of 4 inputs, in two micro-batches of one group each.
    assert_eq!(WORK.rows(), 2 * 9 + 6 * 4);
    assert_eq!(trained.product_ceilings[0].rows, 21);
}

#[test]
fn sharing_a_prompt_saves_its_rows_and_operations() {
    let model = model();
    let decoder = Decoder::new(&model.config, &model.parameters);
    let alone = Work { share: 1, ..WORK };
    assert_eq!(alone.rows(), 6 * (9 + 4));
    let saved = alone.decoding(&decoder)[0].operations / WORK.decoding(&decoder)[0].operations;
    assert_eq!(saved, 3.0);
    // A row behind 9 others sees 10; four of them 11.5 on average.
    assert_eq!(
        causal(&decoder, 9, 4),
        4.0 * decoder.attention_operations(11.5)
    );
}

#[test]
fn impossible_work_is_refused() {
    let config = model().config;
    let refusal = |work: Work| work.check(&config).unwrap_err().to_string();
    assert_eq!(
        refusal(Work { batch: 7, ..WORK }),
        "7 sequences cannot share prompts by 3; give a batch that is a multiple of it"
    );
    let nothing = Work {
        new_tokens: 0,
        ..WORK
    };
    assert_eq!(refusal(nothing), "`new` is 0; give at least 1");
    let long = Work {
        prompt_tokens: 122,
        ..WORK
    };
    assert!(refusal(long).starts_with("sequences of 129 tokens do not fit"));
}

#[test]
fn the_middle_of_an_even_number_lies_between_two() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
}
