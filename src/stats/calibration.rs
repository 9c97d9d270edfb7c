//! Whether what is said with a confidence of 0.9 is right nine times in ten.

/// Those whose confidence lies between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bin {
    pub from: f64,
    pub to: f64,
    pub count: usize,
    /// The mean of their confidence, and the share of them that is right; `None` for none.
    pub confidence: Option<f64>,
    pub accuracy: Option<f64>,
}

/// Puts `said`, each a confidence from 0 to 1 with whether it was right, into `bins` of one width,
/// the upper bound of each included; and the expected calibration error: how far confidence and
/// accuracy of a bin are apart, in the mean of all that was said.
pub fn calibrate(said: &[(f64, bool)], bins: usize) -> (Vec<Bin>, Option<f64>) {
    let bins = bins.max(1);
    let mut sums = vec![(0_usize, 0.0, 0_usize); bins];
    for (confidence, right) in said {
        let place = (confidence * bins as f64 - 1e-9).max(0.0) as usize;
        let Some(sum) = sums.get_mut(place.min(bins - 1)) else { continue };
        *sum = (sum.0 + 1, sum.1 + confidence, sum.2 + usize::from(*right));
    }
    let bound = |at: usize| at as f64 / bins as f64;
    let bin = |(at, (count, confidence, right)): (usize, &(usize, f64, usize))| {
        let mean = |sum: f64| (*count > 0).then(|| sum / *count as f64);
        Bin {
            from: bound(at),
            to: bound(at + 1),
            count: *count,
            confidence: mean(*confidence),
            accuracy: mean(*right as f64),
        }
    };
    let found: Vec<Bin> = sums.iter().enumerate().map(bin).collect();
    let off = |bin: &Bin| Some((bin.confidence? - bin.accuracy?).abs() * bin.count as f64);
    let error = found.iter().filter_map(off).sum::<f64>() / said.len() as f64;
    (found, (!said.is_empty()).then_some(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_held_against_what_was_right() {
        let said =
            [(0.95, true), (0.95, false), (0.9, true), (0.5, false), (1.0, true), (0.0, false)];
        let (bins, error) = calibrate(&said, 10);
        assert_eq!(bins.len(), 10);
        assert_eq!((bins[9].count, bins[8].count, bins[4].count, bins[0].count), (3, 1, 1, 1));
        assert!((bins[9].accuracy.unwrap() - 2.0 / 3.0).abs() < 1e-12);
        // |2.9 - 2| + |0.9 - 1| + |0.5 - 0| + 0, of six.
        assert!((error.unwrap() - 1.5 / 6.0).abs() < 1e-9, "{error:?}");
        assert_eq!(calibrate(&[], 10).1, None);
        assert_eq!(calibrate(&[(7.0, true), (f64::NAN, true)], 0).0.len(), 1);
    }
}
