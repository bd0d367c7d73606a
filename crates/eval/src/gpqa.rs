//! GPQA as its authors hand it out: a CSV table, the right option always first.

use std::path::Path;
use std::sync::Arc;

use seele_data::{Place, Problem};
use seele_random::Key;
use serde_json::Map;

use crate::error::EvalError;

/// Seed of the order in which the options are shown, the same for everybody who reads the file.
const OPTION_ORDER: u64 = 0;

const COLUMNS: [&str; 6] = [
    "Question",
    "Correct Answer",
    "Incorrect Answer 1",
    "Incorrect Answer 2",
    "Incorrect Answer 3",
    "Record ID",
];

/// Reads the problems; the options of each are shuffled and lettered from A.
pub(crate) fn read(path: &Path, text: &str) -> Result<Vec<Problem>, EvalError> {
    let wrong = |line, reason: String| EvalError::Csv {
        file: path.to_path_buf(),
        line,
        reason,
    };
    let rows = rows(text).map_err(|line| wrong(line, "a quoted field is not closed".into()))?;
    let mut rows = rows.into_iter();
    let (_, header) = rows
        .next()
        .ok_or_else(|| wrong(1, "the table is empty".into()))?;
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        let found = header.iter().position(|column| column.trim() == name);
        *place = found.ok_or_else(|| wrong(1, format!("there is no column `{name}`")))?;
    }
    let file: Arc<Path> = path.into();
    let mut problems = Vec::new();
    for (index, (line, row)) in rows.enumerate() {
        let mut fields = [""; COLUMNS.len()];
        for ((field, place), name) in fields.iter_mut().zip(places).zip(COLUMNS) {
            *field = row.get(place).map_or("", |text| text.trim());
            if field.is_empty() {
                return Err(wrong(line, format!("`{name}` is empty")));
            }
        }
        let [question, options @ .., id] = fields;
        let order = Key::new(OPTION_ORDER)
            .with(index as u64)
            .permutation(options.len());
        let right = order.iter().position(|&option| option == 0).unwrap_or(0);
        problems.push(Problem {
            id: id.to_owned(),
            problem: question.to_owned(),
            answer: Problem::choice_letter(right)
                .map(String::from)
                .unwrap_or_default(),
            solution: None,
            steps: Vec::new(),
            choices: order
                .iter()
                .map(|&option| options[option].to_owned())
                .collect(),
            answer_index: Some(right),
            extra: Map::new(),
            place: Place::Line {
                file: Arc::clone(&file),
                line: line as u64,
            },
        });
    }
    Ok(problems)
}

/// The rows of a CSV text (RFC 4180: quotes, doubled quotes, line breaks inside them), each with
/// the one-based line it begins in; blank lines are left out. The error is the line of a row whose
/// quote never closes.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, usize> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut start, mut quoted) = (1, 1, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        line += usize::from(character == '\n');
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                let row = std::mem::take(&mut row);
                if row.len() > 1 || !row.concat().is_empty() {
                    rows.push((start, row));
                }
                start = line;
            }
            other => field.push(other),
        }
    }
    if quoted {
        return Err(start);
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push((start, row));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\u{feff}Record ID,Note,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\r\n\
        r1,,\"Two\nlines, a comma and \"\"quotes\"\"?\",yes,no,maybe,never\r\n\
        \r\nr2,x,Why?,a,b,c,\" d \"";

    #[test]
    fn quoted_fields_keep_commas_quotes_and_line_breaks() {
        let problems = read(Path::new("g.csv"), TABLE).unwrap();
        assert_eq!(problems.len(), 2);
        assert_eq!(problems[0].problem, "Two\nlines, a comma and \"quotes\"?");
        assert_eq!(
            (problems[1].id.as_str(), problems[1].place.index()),
            ("r2", 4)
        );
        for (problem, right) in problems.iter().zip(["yes", "a"]) {
            let index = problem.answer_index.unwrap();
            assert_eq!(problem.choices[index], right);
            assert_eq!(problem.answer, ["A", "B", "C", "D"][index]);
            assert_eq!(problem.choices.len(), 4);
        }
    }

    #[test]
    fn the_right_option_stands_everywhere_about_equally_often() {
        let header = TABLE.lines().next().unwrap();
        let rows: String = (0..400).map(|i| format!("r{i},,q,1,2,3,4\n")).collect();
        let problems = read(Path::new("g.csv"), &format!("{header}\n{rows}")).unwrap();
        for letter in ["A", "B", "C", "D"] {
            let count = problems.iter().filter(|p| p.answer == letter).count();
            assert!((70..=130).contains(&count), "{letter}: {count}");
        }
    }

    #[test]
    fn broken_tables_are_named_with_their_line() {
        let message = |text: &str| read(Path::new("g.csv"), text).unwrap_err().to_string();
        assert!(message("").contains("is empty"));
        assert!(message("Question\nx").contains("`Correct Answer`"));
        let open = format!("{TABLE}\nr3,,\"never closed");
        assert!(
            message(&open).contains("line 6: a quoted field"),
            "{}",
            message(&open)
        );
        let short = format!("{TABLE}\nr3,,q,a,b");
        assert!(message(&short).contains("line 6: `Incorrect Answer 2` is empty"));
    }
}
