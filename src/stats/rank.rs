//! Whether two series rise and fall together, and how likely that is by chance.

use super::dice::Dice;

/// Each value's place among all; those that are the same share the mean of their places.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|one, other| values[*one].total_cmp(&values[*other]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let same = |at: &usize| values[*at] == values[order[start]];
        let end = start + order[start..].iter().take_while(|at| same(at)).count().max(1);
        let mean = (start + 1 + end) as f64 / 2.0;
        order[start..end].iter().for_each(|at| ranks[*at] = mean);
        start = end;
    }
    ranks
}

/// Deviations from the mean, in the unit of their spread; `None` where there is no spread.
fn standard(values: &[f64]) -> Option<Vec<f64>> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let spread = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt();
    (spread > 0.0).then(|| values.iter().map(|value| (value - mean) / spread).collect())
}

fn product(xs: &[f64], ys: &[f64]) -> f64 {
    xs.iter().zip(ys).map(|(x, y)| x * y).sum()
}

/// Spearman's rank correlation, from -1 to 1. `None` where one of the series does not vary.
pub fn spearman(points: &[(f64, f64)]) -> Option<f64> {
    let (xs, ys) = standard_ranks(points)?;
    Some(product(&xs, &ys))
}

fn standard_ranks(points: &[(f64, f64)]) -> Option<(Vec<f64>, Vec<f64>)> {
    let (xs, ys): (Vec<f64>, Vec<f64>) = points.iter().copied().unzip();
    Some((standard(&ranks(&xs))?, standard(&ranks(&ys))?))
}

/// How likely a rank correlation at least as far from 0 is where the series have nothing to do with
/// each other: the share of so many random orders of the second one that show it, this one counted
/// in, `(x + 1) / (n + 1)`.
pub fn permutation_p(points: &[(f64, f64)], permutations: u32, seed: u64) -> Option<f64> {
    let (xs, mut ys) = standard_ranks(points)?;
    // The same products summed in another order differ in their last digits.
    let least = product(&xs, &ys).abs() - 1e-12;
    let mut dice = Dice::new(seed, "permutations");
    let mut as_far = 0_u32;
    for _ in 0..permutations {
        dice.shuffle(&mut ys);
        as_far += u32::from(product(&xs, &ys).abs() >= least);
    }
    Some((f64::from(as_far) + 1.0) / (f64::from(permutations) + 1.0))
}

/// Probabilities of several tests, each adjusted for there being several (Benjamini and Hochberg):
/// calling those below `q` discoveries makes at most a share `q` of the calls false. In the order
/// that they came in.
pub fn adjust(probabilities: &[f64]) -> Vec<f64> {
    let count = probabilities.len();
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|one, other| probabilities[*other].total_cmp(&probabilities[*one]));
    let mut adjusted = vec![0.0; count];
    let mut least = 1.0_f64;
    for (passed, at) in order.into_iter().enumerate() {
        let rank = (count - passed) as f64;
        least = least.min(probabilities[at] * count as f64 / rank);
        adjusted[at] = least;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(ys: [f64; 10]) -> Vec<(f64, f64)> {
        ys.into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect()
    }

    #[test]
    fn rank_correlation_is_that_of_scipy() {
        // scipy.stats.spearmanr, with ties
        let ties = points([2.5, 1.0, 4.0, 4.0, 3.0, 6.5, 6.5, 9.0, 8.0, 7.0]);
        assert!((spearman(&ties).unwrap() - 0.8963581269790831).abs() < 1e-12);
        assert_eq!(spearman(&points([1.0; 10])), None);
        assert_eq!(spearman(&[]), None);
    }

    #[test]
    fn chance_is_counted_and_the_seed_decides() {
        let weak = points([5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0, 10.0, 4.0, 6.0]);
        assert!((spearman(&weak).unwrap() - 0.2727272727272727).abs() < 1e-12);
        // 20,000 permutations with NumPy: 0.4486
        let p = permutation_p(&weak, 20_000, 2026).unwrap();
        assert!((p - 0.4486).abs() < 0.01, "{p}");
        assert_eq!(permutation_p(&weak, 20_000, 2026), Some(p));
        let strong = points([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert_eq!(permutation_p(&strong, 999, 1), Some(0.001), "itself, counted in");
    }

    #[test]
    fn several_tests_are_adjusted_as_statsmodels_does() {
        // multipletests(method="fdr_bh")
        let adjusted = adjust(&[0.01, 0.04, 0.03, 0.005, 0.5]);
        for (found, wanted) in adjusted.iter().zip([0.025, 0.05, 0.05, 0.025, 0.5]) {
            assert!((found - wanted).abs() < 1e-12, "{adjusted:?}");
        }
        assert!(adjust(&[]).is_empty());
    }
}
