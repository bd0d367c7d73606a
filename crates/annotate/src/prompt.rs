//! What a server is asked.

use seele_data::Problem;

/// What an annotation should look like (the demands of App. E, in our wording).
pub const INSTRUCTIONS: &str = r"Write a solution of the problem below for a learner who will be shown it step by step.

- Number the steps: 1., 2., 3. Use no more than five, and only as many as the solution needs.
- Leave no gap: every step must follow from the problem and the steps before it.
- Where a step is not obvious, say in a few words why it is taken.
- Do not explain terms that a learner of this level knows.
- Show at least one intermediate computation.
- In symbolic work, name the rule that each transformation uses.
- End the last step with the final answer in \boxed{}.

Write nothing before the first step and nothing after the box.";

/// The message that asks for a solution; a reference solution helps where there is one.
pub(crate) fn message(problem: &Problem) -> String {
    let mut text = format!("{INSTRUCTIONS}\n\nProblem:\n{}", problem.problem);
    if !problem.choices.is_empty() {
        text.push_str("\n\n");
        text.push_str(&problem.lettered_choices());
        text.push_str("\n\nThe final answer is the letter of the right option.");
    }
    if let Some(solution) = &problem.solution {
        text.push_str("\n\nA correct solution, to be rewritten as such steps:\n");
        text.push_str(solution);
    }
    text
}
