//! Nothing is timed before both sides have shown that they compute the same.

use candle_core::{Result, Tensor};

/// Panics unless every element is within `tolerance` times the largest.
pub(crate) fn agree(what: &str, ours: &[f32], candles: &Tensor, tolerance: f32) -> Result<()> {
    let candles = candles.flatten_all()?.to_vec1::<f32>()?;
    assert_eq!(ours.len(), candles.len(), "{what}: number of elements");
    let largest = candles.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    assert!(largest > 0.0, "{what}: candle has only zeros");
    for (i, (a, b)) in ours.iter().zip(&candles).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * largest,
            "{what}: element {i} is {a} here and {b} with candle (largest {largest})"
        );
    }
    Ok(())
}
