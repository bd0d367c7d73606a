//! Files and folders of problems, read in a stream or whole.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::layout::{Layout, row_id};
use crate::problem::{Place, Problem};
use crate::rows::{Row, RowReader};

/// Streams the problems of a file, or of all data files of a folder in the order of their names,
/// each problem checked (see [`Problem`]).
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
    given: Option<Layout>,
    /// The layout of the open file.
    layout: Option<Layout>,
    rows: RowReader,
    /// Problems read from the open file.
    read: u64,
    /// Files still to be read.
    later: std::vec::IntoIter<PathBuf>,
    places: HashMap<String, Place>,
    ended: bool,
}

impl ProblemReader {
    /// Opens a file or folder; `layout` as given, or told for each file by its first row.
    ///
    /// # Errors
    /// [`DataError::Open`], [`DataError::Parquet`], [`DataError::EmptyFolder`].
    pub fn open(path: impl AsRef<Path>, layout: Option<Layout>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let mut later = data_files(path)?.into_iter();
        let first = later.next().ok_or_else(|| DataError::EmptyFolder {
            path: path.to_path_buf(),
        })?;
        Ok(Self {
            rows: RowReader::open(first)?,
            layout: layout.clone(),
            given: layout,
            read: 0,
            later,
            places: HashMap::new(),
            ended: false,
        })
    }

    /// The layout of the file being read: as given, else known after its first row.
    pub fn layout(&self) -> Option<&Layout> {
        self.layout.as_ref()
    }

    /// The next row, of the next file where one ends.
    fn row(&mut self) -> Result<Option<Row>, DataError> {
        loop {
            if let Some(row) = self.rows.next().transpose()? {
                return Ok(Some(row));
            }
            if self.read == 0 {
                return Err(DataError::Empty {
                    path: self.rows.path().to_path_buf(),
                });
            }
            let Some(file) = self.later.next() else {
                return Ok(None);
            };
            self.rows = RowReader::open(file)?;
            self.layout.clone_from(&self.given);
            self.read = 0;
        }
    }

    fn problem(&mut self) -> Result<Option<Problem>, DataError> {
        let Some(row) = self.row()? else {
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
        self.read += 1;
        if layout.ids_may_repeat() && self.places.contains_key(&problem.id) {
            problem.id = format!("{}-{}", problem.id, row_id(&problem.place));
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
        let problem = self.problem().transpose();
        self.ended = !matches!(problem, Some(Ok(_)));
        problem
    }
}

/// Reads all problems of a file, or of all data files of a folder in the order of their names.
///
/// # Errors
/// The first row that is wrong, anywhere; [`DataError::Empty`] for a file without rows;
/// [`DataError::DuplicateId`] also between the files of a folder.
pub fn read_problems(
    path: impl AsRef<Path>,
    layout: Option<&Layout>,
) -> Result<Vec<Problem>, DataError> {
    ProblemReader::open(path, layout.cloned())?.collect()
}

/// The file itself, or the data files of a folder in the order of their names.
///
/// # Errors
/// [`DataError::Open`] for a folder that cannot be looked into.
pub fn data_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
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
        let ends = [".jsonl", ".jsonl.gz", ".parquet"];
        if ends.iter().any(|end| name.ends_with(end)) && !name.starts_with('.') {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
