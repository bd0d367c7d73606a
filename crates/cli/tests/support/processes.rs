//! Commands under way, and the files that they write meanwhile.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Child;

/// Exit code, output and messages of a command, once it has ended.
pub(crate) fn end(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// The rows of a file of JSON lines, none if it is not there yet. While it grows, its last line may be half
/// there.
pub(crate) fn rows(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
