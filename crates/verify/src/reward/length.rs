//! Length shaping.

/// DAPO's soft overlong penalty (arXiv 2503.14476, Eq. 13), in `(-inf, 0]`.
///
/// * `tokens`: length of the completion, tokens.
/// * `max_tokens`: the generation limit.
/// * `buffer_tokens`: the last stretch before the limit, in which the penalty grows from 0 to `factor`; positive.
/// * returns `min(0, -(tokens - (max_tokens - buffer_tokens)) / buffer_tokens * factor)`, f64.
///
/// ```
/// use seele_verify::reward::overlong_penalty;
/// assert_eq!(overlong_penalty(1000, 20480, 4096, 1.0), 0.0);
/// assert_eq!(overlong_penalty(18432, 20480, 4096, 1.0), -0.5);
/// assert_eq!(overlong_penalty(20480, 20480, 4096, 1.0), -1.0);
/// ```
pub fn overlong_penalty(
    tokens: usize,
    max_tokens: usize,
    buffer_tokens: usize,
    factor: f64,
) -> f64 {
    let start = max_tokens as f64 - buffer_tokens as f64;
    let overlong = -(tokens as f64 - start) / buffer_tokens as f64 * factor;
    overlong.min(0.0)
}
