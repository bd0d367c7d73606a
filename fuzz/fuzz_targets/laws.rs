//! Equality does not depend on which side is the gold, and a gold that can be judged is equal to itself.
//!
//! The first line break ends the one answer, the rest is the other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seele_verify::{Options, Verdict, check_gold, compare_answers};

fuzz_target!(|text: &str| {
    let (one, other) = text.split_once('\n').unwrap_or((text, text));
    let options = Options::default();
    let (there, back) = (
        compare_answers(one, other, &options),
        compare_answers(other, one, &options),
    );
    // Nothing is said about equality when a side cannot be read or the work limit is reached.
    let judged = |verdict| matches!(verdict, Verdict::Correct | Verdict::Wrong);
    assert!(
        !(judged(there.verdict) && judged(back.verdict)) || there.verdict == back.verdict,
        "equal one way round only: {one:?} and {other:?}: {there:?}, {back:?}"
    );
    if check_gold(one, &options).is_ok() {
        let spaced = format!(" {one} ");
        assert!(
            compare_answers(one, &spaced, &options).verdict.is_correct(),
            "not equal to itself with spaces around it: {one:?}"
        );
    }
});
