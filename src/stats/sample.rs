//! How many to look at, and which.

use super::dice::Dice;

/// How many of `population` are to be looked at so that a share found among them is off by at most
/// `margin` with a probability of `confidence`, whatever the share is; with the correction for a
/// finite population (Cochran). Both are between 0 and 1.
pub fn sample_size(population: u64, confidence: f64, margin: f64) -> u64 {
    let z = normal(0.5 + confidence / 2.0);
    let endless = z * z * 0.25 / (margin * margin);
    let finite = endless / (1.0 + (endless - 1.0) / population.max(1) as f64);
    (finite.ceil() as u64).min(population)
}

/// A row's place in the order in which rows are drawn: it depends on the seed and the row's key
/// alone, so that others may come and go.
pub fn place(seed: u64, key: &str) -> u128 {
    let mut dice = Dice::new(seed, key);
    u128::from(dice.next()) << 64 | u128::from(dice.next())
}

/// The value below which a standard normal variable lies with probability `p`, by Acklam's
/// approximation; off by less than 1.2e-9 of it.
fn normal(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e+01,
        2.209460984245205e+02,
        -2.759285104469687e+02,
        1.383_577_518_672_69e2,
        -3.066479806614716e+01,
        2.506628277459239e+00,
    ];
    const B: [f64; 5] = [
        -5.447609879822406e+01,
        1.615858368580409e+02,
        -1.556989798598866e+02,
        6.680131188771972e+01,
        -1.328068155288572e+01,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-03,
        -3.223964580411365e-01,
        -2.400758277161838e+00,
        -2.549732539343734e+00,
        4.374664141464968e+00,
        2.938163982698783e+00,
    ];
    const D: [f64; 4] = [
        7.784695709041462e-03,
        3.224671290700398e-01,
        2.445134137142996e+00,
        3.754408661907416e+00,
    ];
    let series = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        series(&C, q) / (series(&D, q) * q + 1.0)
    };
    if p < 0.02425 {
        tail(p)
    } else if p > 1.0 - 0.02425 {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        series(&A, q * q) * q / (series(&B, q * q) * q * q + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_tables_in_textbooks() {
        // Krejcie and Morgan's table: 95 %, 5 %; Cochran's 385 of an endless population.
        for (population, size) in [(100, 80), (1000, 278), (10_000, 370), (1_000_000, 385)] {
            let found = sample_size(population, 0.95, 0.05);
            assert!(found.abs_diff(size) <= 1, "{population}: {found}");
        }
        assert_eq!((sample_size(0, 0.95, 0.05), sample_size(1, 0.95, 0.05)), (0, 1));
        // scipy.stats.norm.ppf
        for (p, z) in [(0.975, 1.95996398454), (0.995, 2.57582930355), (0.999, 3.09023230617)] {
            assert!((normal(p) - z).abs() < 1e-7, "{p}: {}", normal(p));
            assert!((normal(1.0 - p) + z).abs() < 1e-7);
        }
    }

    #[test]
    fn a_place_follows_from_seed_and_key() {
        assert_eq!(place(1, "a"), place(1, "a"));
        assert_ne!(place(1, "a"), place(1, "b"));
        assert_ne!(place(1, "a"), place(2, "a"));
    }
}
