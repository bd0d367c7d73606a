//! Evaluations of a tiny model: records, restarts, tables and comparisons.
#![expect(clippy::unwrap_used, reason = "a test may stop where its set-up fails")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use seele_data::{BoxError, EncodedText};
use seele_eval::{
    Benchmark, Comparison, EvalError, Evaluation, ModelIdentity, ProblemSet, Record, Subject,
    Summary, Table,
};
use seele_policy::config::{Family, ModelConfig};
use seele_policy::decoder::Decoder;
use seele_policy::parameters::Parameters;
use seele_random::Key;
use seele_rollout::{
    BranchRequest, FinishedBranch, LocalEngine, RolloutEngine, RolloutError, RolloutStatistics,
    TrunkId,
};
use seele_verify::Verdict;

const PROBLEMS: usize = 7;
const SAMPLES: usize = 3;

fn config() -> ModelConfig {
    ModelConfig {
        family: Family::Llama,
        vocab_size: 40,
        hidden_size: 32,
        intermediate_size: 48,
        layers: 1,
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
    }
}

fn bytes(text: &str) -> Result<EncodedText, BoxError> {
    Ok(EncodedText {
        ids: text.bytes().map(|byte| u32::from(byte) % 38 + 2).collect(),
        spans: (0..text.len()).map(|i| i..i + 1).collect(),
    })
}

/// What the tiny model is taken to say: right or wrong by its first token, or nothing.
fn decode(ids: &[u32]) -> Result<String, BoxError> {
    Ok(match ids.first().map(|id| id % 3) {
        Some(0) => "So \\boxed{4}.".into(),
        Some(1) => "So \\boxed{5}.".into(),
        _ => "Hm.".into(),
    })
}

fn benchmark(folder: &Path, more: &str) -> Benchmark {
    let rows: String = (0..PROBLEMS)
        .map(|i| {
            let level = i % 2;
            format!(r#"{{"id": "p{i}", "problem": "{i}{i}+", "answer": "4", "level": {level}}}"#)
                + "\n"
        })
        .collect();
    fs::write(folder.join("sums.jsonl"), rows).unwrap();
    Benchmark::from_toml(&format!(
        "name = \"sums\"\ntitle = \"Sums\"\nfiles = [\"sums.jsonl\"]\ntemplate = \"bare\"\n\
         groups = [\"level\"]\nmax_new_tokens = 6\n{more}"
    ))
    .unwrap()
}

const SAMPLED: &str = "samples = 3\ntemperature = 1.0\n";

/// An engine that breaks down after some steps.
struct Failing<'a> {
    engine: LocalEngine<'a>,
    steps: usize,
}

impl RolloutEngine for Failing<'_> {
    fn add_trunk(&mut self, tokens: Vec<u32>) -> Result<TrunkId, RolloutError> {
        self.engine.add_trunk(tokens)
    }

    fn drop_trunk(&mut self, trunk: TrunkId) {
        self.engine.drop_trunk(trunk);
    }

    fn submit(&mut self, request: BranchRequest) -> Result<(), RolloutError> {
        self.engine.submit(request)
    }

    fn step(&mut self) -> Result<Vec<FinishedBranch>, RolloutError> {
        if self.steps == 0 {
            return Err(RolloutError::NonFiniteLogits {
                tag: 0,
                position: 0,
            });
        }
        self.steps -= 1;
        self.engine.step()
    }

    fn pending(&self) -> usize {
        self.engine.pending()
    }

    fn statistics(&self) -> RolloutStatistics {
        self.engine.statistics()
    }
}

/// Evaluates a model of seed `model`, giving up after `steps` steps; with the record comes the number
/// of responses that the engine made.
fn evaluate(
    model: u64,
    benchmark: &Benchmark,
    folder: &Path,
    path: &Path,
    seed: u64,
    steps: usize,
) -> (Result<Record, EvalError>, u64) {
    let config = config();
    let decoder = Decoder::new(&config, &Parameters::random(&config, Key::new(model)));
    let identity = ModelIdentity {
        name: format!("model {model}"),
        fingerprint: format!("{model}"),
        compute: "f32".into(),
    };
    let subject = Subject {
        model: &identity,
        text: &bytes,
        chat: None,
        decode: &decode,
        stop_tokens: &config.eos_token_ids,
        context_tokens: config.max_position_embeddings,
    };
    let set = ProblemSet::load(benchmark, folder, None).unwrap();
    let evaluation = Evaluation::new(benchmark, set, subject, seed).unwrap();
    let engine = LocalEngine::new(&decoder, evaluation.sampling(), 4).unwrap();
    let mut engine = Failing { engine, steps };
    let record = evaluation.run(&mut engine, path, &mut |at| assert!(at.done <= at.total));
    (record, engine.statistics().finished_branches)
}

#[test]
fn a_stopped_evaluation_goes_on_without_asking_twice_and_ends_in_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let sums = benchmark(folder.path(), SAMPLED);
    let whole = folder.path().join("whole.jsonl");
    let (record, asked) = evaluate(1, &sums, folder.path(), &whole, 5, usize::MAX);
    let record = record.unwrap();
    assert_eq!(asked as usize, PROBLEMS * SAMPLES);
    assert_eq!(Record::read(&whole).unwrap(), record);
    let expected = fs::read(&whole).unwrap();

    for steps in [0, 1, 7, 13, 20] {
        let path = folder.path().join(format!("stopped-{steps}.jsonl"));
        let (stopped, _) = evaluate(1, &sums, folder.path(), &path, 5, steps);
        assert!(matches!(stopped, Err(EvalError::Rollout(_))), "{steps}");
        assert!(matches!(
            Record::read(&path),
            Err(EvalError::Unfinished { .. })
        ));
        // The program was killed within a line.
        let mut kept = fs::read(&path).unwrap();
        let lines = kept.iter().filter(|&&byte| byte == b'\n').count() - 1;
        kept.extend_from_slice(br#"{"id":"p6","sample":2,"corr"#);
        fs::write(&path, kept).unwrap();
        let (resumed, asked) = evaluate(1, &sums, folder.path(), &path, 5, usize::MAX);
        assert_eq!(resumed.unwrap(), record);
        assert_eq!(asked as usize, PROBLEMS * SAMPLES - lines, "{steps}");
        assert_eq!(fs::read(&path).unwrap(), expected, "{steps}");
    }
    let (again, asked) = evaluate(1, &sums, folder.path(), &whole, 5, 0);
    assert_eq!((again.unwrap(), asked), (record, 0));
}

#[test]
fn a_record_of_other_settings_or_with_a_broken_line_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let sums = benchmark(folder.path(), SAMPLED);
    let path = folder.path().join("r.jsonl");
    evaluate(1, &sums, folder.path(), &path, 5, usize::MAX)
        .0
        .unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let message = |model, seed| {
        let result = evaluate(model, &sums, folder.path(), &path, seed, usize::MAX).0;
        result.unwrap_err().to_string()
    };
    assert!(
        message(1, 6).contains("`seed`: 6 and 5"),
        "{}",
        message(1, 6)
    );
    assert!(
        message(2, 5).contains("model.fingerprint"),
        "{}",
        message(2, 5)
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), before);

    let doubled = format!("{before}{}\n", before.lines().last().unwrap());
    fs::write(&path, doubled).unwrap();
    let line = PROBLEMS * SAMPLES + 2;
    assert!(message(1, 5).contains(&format!("line {line}: problem `p6` was answered")));
    fs::write(&path, before.replacen("\"sample\":1", "\"sample\":one", 1)).unwrap();
    assert!(
        message(1, 5).contains("this is no response"),
        "{}",
        message(1, 5)
    );
}

#[test]
fn the_summary_counts_what_the_record_holds() {
    let folder = tempfile::tempdir().unwrap();
    let sums = benchmark(folder.path(), SAMPLED);
    let path = folder.path().join("sums.jsonl.record");
    let (record, _) = evaluate(1, &sums, folder.path(), &path, 5, usize::MAX);
    let mut record = record.unwrap();
    // Whatever the model said, say: right at the first sample of every problem and at all of p0.
    for (index, response) in record.responses.iter_mut().enumerate() {
        let right = index < SAMPLES || index.is_multiple_of(SAMPLES);
        response.correct = right;
        response.verdict = if right {
            Verdict::Correct
        } else {
            Verdict::Wrong
        };
        response.extracted = Some(if right {
            "4".into()
        } else {
            format!("{}", 5 + index % 2)
        });
        response.truncated = false;
    }
    record.responses[4].extracted = None;
    record.responses[4].verdict = Verdict::NoAnswer;
    record.responses[5].truncated = true;
    let summary = Summary::new(&record);
    assert_eq!(summary.measure, "avg@3");
    assert!((summary.accuracy - (1.0 + 6.0 / 3.0) / 7.0).abs() < 1e-12);
    assert_eq!(
        (summary.correct, summary.no_answer, summary.truncated),
        (9, 1, 1)
    );
    let pass: BTreeMap<usize, f64> = summary.pass_at.clone();
    assert!((pass[&1] - 3.0 / 7.0).abs() < 1e-12 && (pass[&3] - 1.0).abs() < 1e-12);
    // 1 of 3 right: two draws hit it with probability 2/3.
    assert!((pass[&2] - (1.0 + 6.0 * 2.0 / 3.0) / 7.0).abs() < 1e-12);
    // Three different answers: the first counts, which is right.
    assert_eq!(summary.majority, Some(1.0));
    let levels = &summary.groups["level"];
    assert_eq!((levels["0"].problems, levels["1"].problems), (4, 3));
    assert!((levels["1"].accuracy - 1.0 / 3.0).abs() < 1e-12);
    assert!((levels["0"].accuracy - 0.5).abs() < 1e-12);
    let (low, high) = summary.interval;
    assert!(low <= summary.accuracy && summary.accuracy <= high && low < high);
}

#[test]
fn cut_responses_are_wrong_and_the_limit_is_what_the_model_has_room_for() {
    let folder = tempfile::tempdir().unwrap();
    let sums = benchmark(folder.path(), SAMPLED);
    let (record, _) = evaluate(
        1,
        &sums,
        folder.path(),
        &folder.path().join("a"),
        5,
        usize::MAX,
    );
    let record = record.unwrap();
    assert!(record.responses.iter().any(|response| response.truncated));
    for response in &record.responses {
        assert!(response.tokens <= 6 && (!response.truncated || response.tokens == 6));
        assert!(!(response.truncated && response.correct));
        let right = response.verdict == Verdict::Correct && !response.truncated;
        assert_eq!(response.correct, right);
    }
    let long = Benchmark {
        max_new_tokens: 4096,
        ..sums
    };
    let (record, _) = evaluate(1, &long, folder.path(), &folder.path().join("b"), 5, 0);
    assert!(record.is_err());
    let header = fs::read_to_string(folder.path().join("b")).unwrap();
    // The prompts have 3 tokens, the context 128.
    assert!(header.contains("\"max_new_tokens\":125,"), "{header}");
}

#[test]
fn folders_are_compared_benchmark_by_benchmark_and_tables_written() {
    let folder = tempfile::tempdir().unwrap();
    let sums = benchmark(folder.path(), "");
    let outs = [folder.path().join("a"), folder.path().join("b")];
    let records: Vec<Record> = [1, 2]
        .into_iter()
        .zip(&outs)
        .map(|(model, out)| {
            let path = out.join("sums.jsonl");
            evaluate(model, &sums, folder.path(), &path, 5, usize::MAX)
                .0
                .unwrap()
        })
        .collect();
    let compared = Comparison::read(&outs[0], &outs[1]).unwrap();
    let row = &compared.benchmarks[0];
    assert_eq!((row.problems, row.test), (PROBLEMS, "exact McNemar"));
    let accuracy = |record: &Record| Summary::new(record).accuracy;
    let difference = accuracy(&records[1]) - accuracy(&records[0]);
    assert!((row.difference - difference).abs() < 1e-12);
    assert!(row.settings.is_empty(), "{:?}", row.settings);
    let markdown = compared.to_markdown();
    assert!(
        markdown.contains("A: `model 1`") && markdown.contains("| Sums | 7 |"),
        "{markdown}"
    );

    let table = Table::new(&records[..1]);
    table.write(&outs[0]).unwrap();
    let markdown = fs::read_to_string(outs[0].join("results.md")).unwrap();
    assert!(markdown.starts_with("| Sums |\n| ---: |\n"), "{markdown}");
    assert!(markdown.contains("| Sums | pass@1 | 7 |") && markdown.contains("seele-verify"));
    let json = fs::read_to_string(outs[0].join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["benchmarks"][0]["header"]["grader"]["name"],
        "seele-verify"
    );
    let csv = fs::read_to_string(outs[0].join("results.csv")).unwrap();
    let columns: Vec<usize> = csv.lines().map(|line| line.split(',').count()).collect();
    assert_eq!(columns, [23, 23]);

    let sampled = folder.path().join("c");
    let repeated = benchmark(folder.path(), SAMPLED);
    let path = sampled.join("sums.jsonl");
    evaluate(1, &repeated, folder.path(), &path, 5, usize::MAX)
        .0
        .unwrap();
    let compared = Comparison::read(&outs[0], &sampled).unwrap();
    assert_eq!(compared.benchmarks[0].test, "sign flips");
    let markdown = compared.to_markdown();
    assert!(markdown.contains("`samples`: 1 and 3"), "{markdown}");

    let mut other = records[1].clone();
    other.responses[2].gold = "9".into();
    let result = seele_eval::ComparedBenchmark::new(&records[0], &other);
    assert!(matches!(result, Err(EvalError::OtherProblems { .. })));
}
