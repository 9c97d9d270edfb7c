//! What a series of numbers is like.

/// The value below which a share `p` of `sorted` lies, between two values by a straight line, as R
/// (type 7), NumPy and Excel do. `None` for no numbers, and for a `p` outside 0 to 1.
pub fn quantile(sorted: &[f64], p: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    if !(0.0..=1.0).contains(&p) {
        return None;
    }
    let place = p * last as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[low] + (sorted[high] - sorted[low]) * (place - place.floor()))
}

/// The share of the whole that the largest `share` of `values` holds: concentration. Counted are
/// the `ceil(share * n)` largest. `None` where there is nothing to hold a share of.
pub fn top_share(values: &mut [f64], share: f64) -> Option<f64> {
    let total: f64 = values.iter().sum();
    if !(0.0..=1.0).contains(&share) || total <= 0.0 {
        return None;
    }
    values.sort_by(|one, other| other.total_cmp(one));
    // 0.2 of 10 is 2, whatever the product of two floating-point numbers says.
    let count = (share * values.len() as f64 - 1e-9).ceil() as usize;
    Some(values[..count].iter().sum::<f64>() / total)
}

/// The slope of the straight line through `points` that is least off, in squares. `None` where
/// there is no such line.
pub fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let both: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (points.len() > 1 && spread > 0.0).then(|| both / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_on_the_line_between_two_values() {
        let sorted = [1.0, 2.0, 4.0, 8.0, 16.0];
        // numpy.quantile
        assert_eq!(quantile(&sorted, 0.5), Some(4.0));
        assert_eq!(quantile(&sorted, 0.9), Some(12.8));
        assert_eq!(quantile(&sorted, 0.0), Some(1.0));
        assert_eq!(quantile(&sorted, 1.0), Some(16.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&sorted, 1.5), None);
        assert_eq!(quantile(&sorted, f64::NAN), None);
    }

    #[test]
    fn the_largest_fifth_is_counted_up() {
        let mut values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!(top_share(&mut values, 0.2), Some(19.0 / 55.0));
        assert_eq!(top_share(&mut values, 0.21), Some(27.0 / 55.0), "2.1 of them: three");
        assert_eq!(top_share(&mut [0.0], 0.2), None);
        assert_eq!(top_share(&mut [], 0.2), None);
    }

    #[test]
    fn a_line_is_found() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), Some(2.0));
        assert_eq!(slope(&[(1.0, 1.0), (1.0, 3.0)]), None);
        assert_eq!(slope(&[(1.0, 1.0)]), None);
    }
}
