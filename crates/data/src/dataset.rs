//! Files of problems: reading in a stream, reading whole, writing.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::layout::Layout;
use crate::problem::{Place, Problem};
use crate::rows::RowReader;

/// Streams the problems of one file, each checked (see [`Problem`]).
///
/// Memory: one row, and the id and place of each row before it. After an error the stream ends.
///
/// ```no_run
/// # fn main() -> Result<(), seele_data::DataError> {
/// for problem in seele_data::ProblemReader::open("train.jsonl", None)? {
///     let problem = problem?;
///     println!("{}: {} steps", problem.id, problem.steps.len());
/// }
/// # Ok(())
/// # }
/// ```
pub struct ProblemReader {
    rows: RowReader,
    layout: Option<Layout>,
    places: HashMap<String, Place>,
    ended: bool,
}

impl ProblemReader {
    /// Opens a file; `layout` as given, or told by its first row.
    ///
    /// # Errors
    /// [`DataError::Open`].
    pub fn open(path: impl AsRef<Path>, layout: Option<Layout>) -> Result<Self, DataError> {
        Ok(Self {
            rows: RowReader::open(path)?,
            layout,
            places: HashMap::new(),
            ended: false,
        })
    }

    /// The layout: as given, else known after the first row.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    fn read(&mut self) -> Result<Option<Problem>, DataError> {
        let Some(row) = self.rows.next().transpose()? else {
            if self.places.is_empty() {
                return Err(DataError::Empty {
                    path: self.rows.path().to_path_buf(),
                });
            }
            return Ok(None);
        };
        let layout = match &self.layout {
            Some(layout) => layout,
            None => {
                let found =
                    Layout::detect(&row.fields).ok_or_else(|| DataError::UnknownLayout {
                        place: row.place.clone(),
                        fields: row.fields.keys().cloned().collect(),
                    })?;
                self.layout.insert(found)
            }
        };
        let mut problem = layout.problem(row)?;
        if layout.ids_may_repeat() && self.places.contains_key(&problem.id) {
            problem.id = format!("{}-row{}", problem.id, problem.place.index());
        }
        match self.places.entry(problem.id.clone()) {
            Entry::Occupied(first) => Err(DataError::DuplicateId {
                place: problem.place,
                id: problem.id,
                first: first.get().clone(),
            }),
            Entry::Vacant(free) => {
                free.insert(problem.place.clone());
                Ok(Some(problem))
            }
        }
    }
}

impl Iterator for ProblemReader {
    type Item = Result<Problem, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let problem = self.read().transpose();
        self.ended = !matches!(problem, Some(Ok(_)));
        problem
    }
}

/// Reads all problems of a file, or of all data files of a folder in the order of their names.
///
/// # Errors
/// The first row that is wrong, anywhere in the file; [`DataError::Empty`] without rows;
/// [`DataError::DuplicateId`] also between the files of a folder.
pub fn read_problems(
    path: impl AsRef<Path>,
    layout: Option<&Layout>,
) -> Result<Vec<Problem>, DataError> {
    let mut places: HashMap<String, Place> = HashMap::new();
    let mut problems = Vec::new();
    let files = data_files(path.as_ref())?;
    for file in &files {
        for problem in ProblemReader::open(file, layout.cloned())? {
            let problem = problem?;
            if files.len() > 1
                && let Some(first) = places.insert(problem.id.clone(), problem.place.clone())
            {
                return Err(DataError::DuplicateId {
                    place: problem.place,
                    id: problem.id,
                    first,
                });
            }
            problems.push(problem);
        }
    }
    Ok(problems)
}

/// The file itself, or the data files of a folder by name.
fn data_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let open = |source| DataError::Open {
        path: path.to_path_buf(),
        source,
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(open)? {
        let file = entry.map_err(open)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if [".jsonl", ".jsonl.gz", ".parquet"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DataError::EmptyFolder {
            path: path.to_path_buf(),
        });
    }
    Ok(files)
}
