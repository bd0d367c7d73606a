//! The problems of a benchmark, read and checked.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use seele_data::{Problem, data_files, read_problems};
use seele_random::Key;
use sha2::{Digest, Sha256};

use crate::benchmark::Benchmark;
use crate::error::EvalError;
use crate::gpqa;

/// The problems of a benchmark.
#[derive(Clone, Debug)]
pub struct ProblemSet {
    /// The file they were read from.
    pub file: PathBuf,
    /// SHA-256 of the file, lower-case hexadecimal.
    pub sha256: String,
    /// Rows of the file.
    pub rows: usize,
    /// The problems to be asked, in the order of the file: all of them, or the first.
    pub problems: Vec<Problem>,
}

/// Lower-case hexadecimal.
fn hexadecimal(sha256: Sha256) -> String {
    let digest = sha256.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn add_file(digest: &mut Sha256, path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(()),
            count => digest.update(&chunk[..count]),
        }
    }
}

impl ProblemSet {
    /// Problems that have been read from `path`, a file or a folder of files, all of them or some.
    ///
    /// # Errors
    /// [`EvalError::Read`] if a file cannot be read for its hash.
    pub fn of_path(path: &Path, problems: Vec<Problem>) -> Result<Self, EvalError> {
        let mut digest = Sha256::new();
        for file in data_files(path)? {
            add_file(&mut digest, &file).map_err(|source| EvalError::Read {
                path: file.clone(),
                source,
            })?;
        }
        Ok(Self {
            file: path.to_path_buf(),
            sha256: hexadecimal(digest),
            rows: problems.len(),
            problems,
        })
    }

    /// Reads the whole set from the data folder `folder`, or from beside the benchmark's own file,
    /// checks its number of rows, and keeps the first `limit` problems.
    ///
    /// # Errors
    /// [`EvalError::MissingSet`] says how to get it; [`EvalError::RowCount`]; or a row is wrong.
    pub fn load(
        benchmark: &Benchmark,
        folder: &Path,
        limit: Option<usize>,
    ) -> Result<Self, EvalError> {
        let folders = [Some(folder), benchmark.folder.as_deref()];
        let mut places = folders.into_iter().flatten().flat_map(|folder| {
            let files = benchmark.files.iter();
            files.map(move |file| folder.join(file))
        });
        let file = places.find(|file| file.is_file());
        let file = file.ok_or_else(|| EvalError::MissingSet {
            title: benchmark.title.clone(),
            folder: folder.to_path_buf(),
            files: benchmark.files.clone(),
            get: benchmark.get.clone(),
        })?;
        let read = |source| EvalError::Read {
            path: file.clone(),
            source,
        };
        let bytes = std::fs::read(&file).map_err(read)?;
        let sha256 = hexadecimal(Sha256::new_with_prefix(&bytes));
        let mut problems = if file.extension().is_some_and(|ending| ending == "csv") {
            let text = String::from_utf8(bytes).map_err(|error| {
                read(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
            })?;
            gpqa::read(&file, &text)?
        } else {
            drop(bytes);
            read_problems(&file, None)?
        };
        let rows = problems.len();
        if let Some(expected) = benchmark.rows
            && rows != expected
        {
            return Err(EvalError::RowCount {
                title: benchmark.title.clone(),
                file,
                found: rows,
                expected,
            });
        }
        problems.truncate(limit.unwrap_or(rows));
        if let Some(seed) = benchmark.shuffle_choices {
            for (index, problem) in problems.iter_mut().enumerate() {
                shuffle_choices(problem, Key::new(seed).with(index as u64));
            }
        }
        Ok(Self {
            file,
            sha256,
            rows,
            problems,
        })
    }
}

/// Shows the options in another order, the gold letter with them.
fn shuffle_choices(problem: &mut Problem, key: Key) {
    let order = key.permutation(problem.choices.len());
    let right = order
        .iter()
        .position(|&old| Some(old) == problem.answer_index);
    if let Some((right, letter)) =
        right.and_then(|right| Some((right, Problem::choice_letter(right)?)))
    {
        let old = std::mem::take(&mut problem.choices);
        problem.choices = order
            .iter()
            .filter_map(|&index| old.get(index).cloned())
            .collect();
        problem.answer = letter.into();
        problem.answer_index = Some(right);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn benchmark(more: &str) -> Benchmark {
        let text = format!("name = \"x\"\ntitle = \"X\"\nfiles = [\"x.jsonl\"]\n{more}");
        Benchmark::from_toml(&text).unwrap()
    }

    fn rows(count: usize) -> String {
        let row = |i| {
            format!(
                r#"{{"id": "{i}", "problem": "p", "choices": ["a", "b", "c", "d"], "answer_index": {}}}"#,
                i % 4
            )
        };
        (0..count).map(|i| row(i) + "\n").collect()
    }

    #[test]
    fn a_missing_set_says_how_to_get_it_and_another_number_of_rows_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let asked = benchmark("rows = 3\nget = \"a table of sums\"");
        let message = ProblemSet::load(&asked, folder.path(), None)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("`x.jsonl`") && message.contains("a table of sums"),
            "{message}"
        );
        std::fs::write(folder.path().join("x.jsonl"), rows(4)).unwrap();
        let message = ProblemSet::load(&asked, folder.path(), Some(3))
            .unwrap_err()
            .to_string();
        assert!(message.contains("has 4 rows, published are 3"), "{message}");
        let set = ProblemSet::load(&benchmark("rows = 4"), folder.path(), Some(2)).unwrap();
        assert_eq!((set.rows, set.problems.len(), set.sha256.len()), (4, 2, 64));
    }

    #[test]
    fn shuffled_options_keep_the_right_one_right() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("x.jsonl"), rows(40)).unwrap();
        let load = |more| {
            ProblemSet::load(&benchmark(more), folder.path(), None)
                .unwrap()
                .problems
        };
        let (plain, shuffled) = (load(""), load("shuffle_choices = 5"));
        assert_eq!(shuffled, load("shuffle_choices = 5"));
        assert_ne!(plain, shuffled);
        for (plain, shuffled) in plain.iter().zip(&shuffled) {
            let right = |p: &Problem| p.choices[p.answer_index.unwrap()].clone();
            assert_eq!(right(plain), right(shuffled));
            let index = shuffled.answer_index.unwrap();
            assert_eq!(shuffled.answer, ["A", "B", "C", "D"][index]);
        }
    }
}
