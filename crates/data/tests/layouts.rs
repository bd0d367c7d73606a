//! Rows in the column layouts that public data sets have.
#![expect(clippy::unwrap_used, reason = "test helpers fail by panicking")]

use std::path::Path;

use seele_data::{DataError, FieldMapping, Layout, Place, Problem, Row};
use serde_json::{Map, Value, json};

fn fields(row: Value) -> Map<String, Value> {
    let Value::Object(fields) = row else {
        panic!("an object")
    };
    fields
}

fn read(layout: &Layout, row: Value) -> Result<Problem, DataError> {
    let place = Place::Row {
        file: Path::new("x.parquet").into(),
        row: 5,
    };
    layout.problem(Row {
        place,
        fields: fields(row),
    })
}

/// Reads a row in the layout that is told from its fields.
fn told(row: Value, name: &str) -> Problem {
    let layout = Layout::detect(&fields(row.clone())).unwrap();
    assert_eq!(layout.name(), name);
    read(&layout, row).unwrap()
}

#[test]
fn math_takes_the_answer_from_the_last_box() {
    let problem = told(
        json!({"problem": "p", "level": "Level 5", "type": "Algebra", "solution": "So $\\boxed{1}$?\n\nNo, $\\boxed{\\frac12}$."}),
        "math",
    );
    assert_eq!(problem.answer, "\\frac12");
    assert_eq!(
        problem.steps,
        ["So $\\boxed{1}$?\n\n", "No, $\\boxed{\\frac12}$."]
    );
    assert_eq!(problem.id, "x-5");
    assert_eq!(problem.extra.keys().collect::<Vec<_>>(), ["level", "type"]);
    let error = read(&Layout::Math, json!({"problem": "p", "solution": "5"}))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`x.parquet`, row 5: `solution` has no `\\boxed{...}`"),
        "{error}"
    );
}

#[test]
fn deepmath_uses_its_first_solution_and_keeps_the_others() {
    let problem = told(
        json!({"question": "q", "final_answer": "0", "difficulty": 4.5, "topic": "t",
               "r1_solution_1": "a\nb", "r1_solution_2": "c", "r1_solution_3": "d"}),
        "deepmath",
    );
    assert_eq!(
        (problem.problem.as_str(), problem.answer.as_str()),
        ("q", "0")
    );
    assert_eq!(problem.steps, ["a\n", "b"]);
    assert_eq!(problem.extra["r1_solution_3"], "d");
    assert_eq!(problem.extra["difficulty"], 4.5);
}

#[test]
fn verl_reads_question_gold_and_id_from_nested_fields() {
    let row = json!({
        "data_source": "openai/gsm8k",
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q with instruction"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "72"},
        "extra_info": {"split": "train", "index": 3, "question": "q", "answer": "a\nb"}
    });
    let problem = told(row.clone(), "verl");
    assert_eq!(
        (
            problem.id.as_str(),
            problem.problem.as_str(),
            problem.answer.as_str()
        ),
        ("train-3", "q", "72")
    );
    assert_eq!(problem.steps, ["a\n", "b"]);
    // Rewards look into the row: all of it stays.
    assert_eq!(Value::Object(problem.extra.clone()), row);
    assert_eq!(problem.to_row()["reward_model"]["style"], "rule");
}

#[test]
fn verl_without_extra_info_asks_what_the_user_said_last() {
    let row = |gold: Value| {
        json!({"prompt": [{"content": "one", "role": "user"}, {"content": "x", "role": "assistant"}, {"content": "two", "role": "user"}],
               "reward_model": {"ground_truth": gold}, "extra_info": null})
    };
    let problem = told(row(json!({"target": 24, "numbers": [1, 2]})), "verl");
    assert_eq!(
        (
            problem.id.as_str(),
            problem.problem.as_str(),
            problem.answer.as_str()
        ),
        ("x-5", "two", "24")
    );
    assert_eq!(problem.solution, None);
    assert_eq!(
        told(row(json!({"target": ["Paris", "paris"]})), "verl").answer,
        "Paris"
    );
    assert_eq!(
        told(
            row(json!({"solution_text_format": "(1) A is a knight", "names": ["A"]})),
            "verl"
        )
        .answer,
        "(1) A is a knight"
    );
    for (gold, message) in [
        (json!(null), "no `reward_model.ground_truth`"),
        (
            json!({"numbers": [1]}),
            "no `reward_model.ground_truth.target`",
        ),
        (
            json!(true),
            "`reward_model.ground_truth` must be a string, a number",
        ),
    ] {
        let error = read(&Layout::Verl, row(gold)).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn luffy_takes_the_trace_as_solution() {
    let problem = told(
        json!({"prompt": [{"role": "user", "content": "q"}], "target": [{"role": "assistant", "content": "<think>\nt\n</think>\n5"}],
               "reward_model": {"style": "rule", "ground_truth": "5"}, "extra_info": {"split": "default", "index": -1}}),
        "luffy",
    );
    assert_eq!(problem.solution.unwrap(), "<think>\nt\n</think>\n5");
    assert_eq!(
        (problem.id.as_str(), problem.answer.as_str()),
        ("default--1", "5")
    );
}

#[test]
fn uft_takes_steps_from_the_hint_and_the_answer_from_its_tag() {
    let problem = told(
        json!({"target": 3, "nums": [1, 2], "hint": ["1 + 2 = 3\n", "done"],
               "question": "Frame.\nUser: Make 3. Show your work in <think> </think> tags.\nAssistant: <think> ",
               "answer": "1 + 2 = 3\ndone </think>\n<answer> 1 + 2 </answer>",
               "prompt": [{"role": "user", "content": "as question"}],
               "reward_model": {"ground_truth": {"numbers": [1, 2], "target": 3}}}),
        "uft",
    );
    assert_eq!(
        (problem.problem.as_str(), problem.answer.as_str()),
        ("Make 3.", "1 + 2")
    );
    assert_eq!(problem.steps, ["1 + 2 = 3\n", "done"]);
    assert_eq!(problem.solution.as_deref(), Some("1 + 2 = 3\ndone"));
    // Written in our schema, foreign columns with our names step aside.
    let written = problem.to_row();
    assert_eq!(written["answer"], "1 + 2");
    assert!(written["answer_raw"].as_str().unwrap().contains("</think>"));
    let again = told(Value::Object(written), "seele");
    assert_eq!(
        (again.answer.as_str(), &again.steps),
        ("1 + 2", &problem.steps)
    );
}

#[test]
fn a_mapping_reads_any_other_layout() {
    let mapping: Layout = serde_json::from_value(json!({"mapping": {
        "problem": "messages.0.content", "answer": "messages.-1.content", "answer_in": "after-hashes",
        "solution": "work", "id": "meta.uid"
    }}))
    .unwrap();
    let row = json!({"messages": [{"content": "q"}, {"content": "so #### 7"}], "work": "a\nb", "meta": {"uid": 12}});
    let problem = read(&mapping, row.clone()).unwrap();
    assert_eq!(
        (
            problem.id.as_str(),
            problem.problem.as_str(),
            problem.answer.as_str()
        ),
        ("12", "q", "7")
    );
    assert_eq!(problem.steps, ["a\n", "b"]);
    assert_eq!(
        problem.extra.keys().collect::<Vec<_>>(),
        ["messages", "meta"]
    );
    let mut without = row;
    without["messages"][0] = json!({});
    let error = read(&mapping, without).unwrap_err().to_string();
    assert!(
        error.contains("no `messages.0.content`, which layout `mapping` needs"),
        "{error}"
    );
}

#[test]
fn a_mapping_with_a_wrong_key_or_path_is_refused() {
    for (mapping, message) in [
        (
            json!({"problem": "p", "answer": "a", "solutions": "s"}),
            "unknown field `solutions`",
        ),
        (
            json!({"problem": "p..q", "answer": "a"}),
            "`p..q` is not a field path",
        ),
        (json!({"problem": "p"}), "missing field `answer`"),
    ] {
        let error = serde_json::from_value::<FieldMapping>(mapping)
            .unwrap_err()
            .to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn layouts_are_named_in_recipes() {
    for name in ["seele", "gsm8k", "math", "deepmath", "verl", "luffy", "uft"] {
        let layout: Layout = serde_json::from_value(json!(name)).unwrap();
        assert_eq!(layout.name(), name);
    }
    assert!(serde_json::from_value::<Layout>(json!("mapping")).is_err());
}
