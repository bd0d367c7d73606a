//! The questions of a benchmark with their settings, and the judging of what is answered.
//!
//! Whoever answers, an engine of ours ([`Evaluation`](crate::Evaluation)) or a server
//! ([`ServedEvaluation`](crate::ServedEvaluation)), is judged and written down here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use seele_data::{Problem, PromptTemplate};
use seele_verify::{Options, Verdict};
use serde_json::Value;

use crate::benchmark::Benchmark;
use crate::error::EvalError;
use crate::grading::Grader;
use crate::problems::ProblemSet;
use crate::record::{DataIdentity, Header, ModelIdentity, Record, RecordWriter, Response};

/// A response as it was written.
pub(crate) struct Answer<'a> {
    /// The text, special tokens left out.
    pub(crate) text: &'a str,
    /// Generated tokens.
    pub(crate) tokens: usize,
    /// Whether it came to an end by itself.
    pub(crate) stopped: bool,
}

/// What is asked, under which settings.
pub(crate) struct Sheet {
    pub(crate) header: Header,
    pub(crate) template: PromptTemplate,
    groups: Vec<String>,
    pub(crate) problems: Vec<Problem>,
    options: Vec<Options>,
}

impl Sheet {
    pub(crate) fn new(
        benchmark: &Benchmark,
        set: ProblemSet,
        model: &ModelIdentity,
        seed: u64,
    ) -> Result<Self, EvalError> {
        benchmark.check()?;
        let template = benchmark.prompt_template()?;
        let grader = Grader::new(benchmark);
        let mut problems = set.problems;
        for problem in &mut problems {
            // A solution is not shown and must not need room.
            problem.solution = None;
            problem.steps.clear();
        }
        let options = problems.iter().map(|problem| grader.options_for(problem));
        let options = options.collect::<Result<_, _>>()?;
        let header = Header {
            format: Header::format(),
            benchmark: benchmark.name.clone(),
            title: benchmark.title.clone(),
            model: model.clone(),
            data: DataIdentity {
                file: set.file.display().to_string(),
                sha256: set.sha256,
                rows: set.rows,
            },
            problems: problems.len(),
            samples: benchmark.samples,
            temperature: benchmark.temperature,
            top_p: benchmark.top_p,
            top_k: benchmark.top_k,
            max_new_tokens: benchmark.max_new_tokens,
            stop_tokens: Vec::new(),
            seed,
            shuffle_choices: benchmark.shuffle_choices,
            template: template.to_toml(),
            grader,
        };
        Ok(Self {
            header,
            template,
            groups: benchmark.groups.clone(),
            problems,
            options,
        })
    }

    /// Index of the problem and of the sample at a place.
    pub(crate) fn at(&self, place: usize) -> (usize, usize) {
        (place / self.header.samples, place % self.header.samples)
    }

    /// Starts the record at `path` or goes on with it: the responses so far at their places, problem by
    /// problem, sample by sample.
    pub(crate) fn open(
        &self,
        path: &Path,
    ) -> Result<(RecordWriter, Vec<Option<Response>>), EvalError> {
        let (writer, found) = RecordWriter::open(path, &self.header)?;
        let problems = self.problems.iter().enumerate();
        let places: HashMap<&str, usize> = problems
            .map(|(index, problem)| (problem.id.as_str(), index))
            .collect();
        let mut sorted: Vec<Option<Response>> = Vec::new();
        sorted.resize_with(self.header.responses(), || None);
        for (line, response) in found.into_iter().enumerate() {
            let place = places.get(response.id.as_str());
            let place = place.map(|index| index * self.header.samples + response.sample);
            match place.and_then(|place| sorted.get_mut(place)) {
                Some(place) => *place = Some(response),
                None => {
                    return Err(EvalError::BrokenRecord {
                        path: path.to_path_buf(),
                        line: line + 2,
                        reason: format!("problem `{}` is not asked here", response.id),
                    });
                }
            }
        }
        Ok((writer, sorted))
    }

    /// Writes the finished record, once all responses are there.
    pub(crate) fn finish(
        &self,
        writer: RecordWriter,
        responses: Vec<Option<Response>>,
    ) -> Result<Record, EvalError> {
        let record = Record {
            header: self.header.clone(),
            responses: responses.into_iter().flatten().collect(),
        };
        writer.finish(&record)?;
        Ok(record)
    }

    pub(crate) fn judged(&self, place: usize, answer: &Answer<'_>) -> Response {
        let (index, sample) = self.at(place);
        let (problem, options) = (&self.problems[index], &self.options[index]);
        let response = self.template.cut(answer.text);
        let stopped = answer.stopped || response.len() < answer.text.len();
        let grade = Grader::grade(problem, response, options);
        Response {
            correct: stopped && grade.is_correct(),
            verdict: grade.verdict,
            reason: grade.reason.to_string(),
            extracted: grade.extracted.map(Into::into),
            tokens: answer.tokens,
            truncated: !stopped,
            response: response.to_owned(),
            ..self.unanswered(index, sample)
        }
    }

    /// The response to a question that the server will not answer.
    pub(crate) fn refused(&self, place: usize, reason: String) -> Response {
        let (index, sample) = self.at(place);
        Response {
            refused: true,
            reason,
            ..self.unanswered(index, sample)
        }
    }

    fn unanswered(&self, index: usize, sample: usize) -> Response {
        let problem = &self.problems[index];
        let column = |name: &String| {
            let text = match problem.extra.get(name)? {
                Value::Null => return None,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            Some((name.clone(), text))
        };
        Response {
            id: problem.id.clone(),
            sample,
            correct: false,
            verdict: Verdict::NoAnswer,
            reason: String::new(),
            gold: problem.answer.clone(),
            extracted: None,
            tokens: 0,
            truncated: false,
            refused: false,
            groups: self
                .groups
                .iter()
                .filter_map(column)
                .collect::<BTreeMap<_, _>>(),
            response: String::new(),
        }
    }
}
