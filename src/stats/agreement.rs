//! How far several raters agree on the labels of the same items.

use std::collections::BTreeMap;

use super::describe::quantile;
use super::dice::Dice;

/// Labels by number, an item after the other: one of each rater, `None` where a rater gave none.
#[derive(Clone, Debug, Default)]
pub struct Ratings {
    /// What the numbers stand for.
    pub labels: Vec<String>,
    pub items: Vec<Vec<Option<usize>>>,
}

impl Ratings {
    /// The labels of two raters, of the items to which both gave one.
    pub fn pair(&self, one: usize, other: usize) -> Vec<(usize, usize)> {
        let both = |item: &Vec<Option<usize>>| Some((item[one]?, item[other]?));
        self.items.iter().filter_map(both).collect()
    }
}

/// The share of pairs of labels that agree. `None` for no pair.
pub fn observed(pairs: &[(usize, usize)]) -> Option<f64> {
    let same = pairs.iter().filter(|(one, other)| one == other).count();
    (!pairs.is_empty()).then(|| same as f64 / pairs.len() as f64)
}

/// Cohen's kappa of two raters: agreement beyond what their own shares of labels would give by
/// chance, from -1 to 1. `None` where that is not defined: no pair, or one label alone.
pub fn cohen(pairs: &[(usize, usize)], labels: usize) -> Option<f64> {
    let count = pairs.len() as f64;
    let mut shares = vec![(0.0, 0.0); labels];
    for (one, other) in pairs {
        shares[*one].0 += 1.0 / count;
        shares[*other].1 += 1.0 / count;
    }
    let chance: f64 = shares.iter().map(|(one, other)| one * other).sum();
    beyond_chance(observed(pairs)?, chance)
}

/// Fleiss' kappa of any number of raters, over the items that all of them labelled.
pub fn fleiss(ratings: &Ratings) -> Option<f64> {
    let whole: Vec<Vec<usize>> =
        ratings.items.iter().filter_map(|item| item.iter().copied().collect()).collect();
    let raters = whole.first()?.len() as f64;
    let count = whole.len() as f64;
    let mut shares = vec![0.0; ratings.labels.len()];
    let mut agreement = 0.0;
    for item in &whole {
        for (label, given) in tally(item.iter().copied()) {
            shares[label] += given / (count * raters);
            agreement += given * (given - 1.0) / (raters * (raters - 1.0) * count);
        }
    }
    let chance = shares.iter().map(|share| share * share).sum();
    if raters > 1.0 { beyond_chance(agreement, chance) } else { None }
}

/// Krippendorff's alpha for labels without an order, of any number of raters, who need not have
/// labelled all items: 1 less the disagreement that there is over that which chance would make.
pub fn krippendorff(ratings: &Ratings) -> Option<f64> {
    let mut totals: BTreeMap<usize, f64> = BTreeMap::new();
    let mut disagreement = 0.0;
    for item in &ratings.items {
        let given = tally(item.iter().flatten().copied());
        let count: f64 = given.values().sum();
        if count < 2.0 {
            continue;
        }
        for (label, of_label) in given {
            *totals.entry(label).or_default() += of_label;
            disagreement += of_label * (count - of_label) / (count - 1.0);
        }
    }
    let count: f64 = totals.values().sum();
    let squares: f64 = totals.values().map(|total| total * total).sum();
    let by_chance = (count * count - squares) / (count - 1.0);
    (by_chance > 0.0).then(|| 1.0 - disagreement / by_chance)
}

fn tally(labels: impl Iterator<Item = usize>) -> BTreeMap<usize, f64> {
    labels.fold(BTreeMap::new(), |mut tally, label| {
        *tally.entry(label).or_default() += 1.0;
        tally
    })
}

fn beyond_chance(agreement: f64, chance: f64) -> Option<f64> {
    // What rounding leaves over is no more than perfect.
    (chance < 1.0 - 1e-12).then(|| ((agreement - chance) / (1.0 - chance)).min(1.0))
}

/// How one label is found again: `pairs` are (true, predicted).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Of those that are said to have the label, the share that has it; `None` where none is.
    pub precision: Option<f64>,
    /// Of those that have it, the share that is said to; `None` where none has.
    pub recall: Option<f64>,
    /// The harmonic mean of both; 0 where the label was never right, `None` where it never occurs.
    pub f1: Option<f64>,
    /// How many have it.
    pub support: usize,
}

impl Score {
    pub fn of(label: usize, pairs: &[(usize, usize)]) -> Score {
        let count = |is: fn(bool, bool) -> bool| {
            pairs.iter().filter(|(one, other)| is(*one == label, *other == label)).count()
        };
        let hits = count(|is, said| is && said);
        let (support, said) = (count(|is, _| is), count(|_, said| said));
        let share = |of: usize| (of > 0).then(|| hits as f64 / of as f64);
        let f1 = (support + said > 0).then(|| 2.0 * hits as f64 / (support + said) as f64);
        Score { precision: share(said), recall: share(support), f1, support }
    }
}

/// Between which two values `measure` lies in all but a share `1 - confidence` of `times` samples
/// that are drawn with replacement from `items`. Samples in which it is not defined do not count;
/// `None` where it is in fewer than half of them.
pub fn bootstrap<T: Clone>(
    items: &[T],
    times: u32,
    confidence: f64,
    seed: u64,
    measure: impl Fn(&[T]) -> Option<f64>,
) -> Option<(f64, f64)> {
    let mut dice = Dice::new(seed, "bootstrap");
    let mut values: Vec<f64> = Vec::new();
    for _ in 0..times {
        let drawn: Vec<T> = items.iter().map(|_| items[dice.below(items.len())].clone()).collect();
        values.extend(measure(&drawn));
    }
    if values.len() * 2 < times as usize {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Some((quantile(&values, tail)?, quantile(&values, 1.0 - tail)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [usize; 12] = [0, 0, 1, 1, 2, 2, 0, 1, 2, 0, 1, 1];
    const B: [usize; 12] = [0, 1, 1, 1, 2, 0, 0, 1, 2, 0, 2, 1];
    const C: [usize; 12] = [0, 0, 1, 2, 2, 2, 0, 1, 1, 0, 1, 1];

    fn ratings(gaps: &[(usize, usize)]) -> Ratings {
        let given = |item: usize| {
            let label = |(rater, label): (usize, usize)| {
                Some(label).filter(|_| !gaps.contains(&(item, rater)))
            };
            [A[item], B[item], C[item]].into_iter().enumerate().map(label).collect()
        };
        Ratings {
            labels: ["x", "y", "z"].map(String::from).into(),
            items: (0..12).map(given).collect(),
        }
    }

    #[track_caller]
    fn near(found: Option<f64>, wanted: f64) {
        assert!(found.is_some_and(|found| (found - wanted).abs() < 1e-12), "{found:?}, {wanted}");
    }

    #[test]
    fn kappas_and_alpha_are_those_of_well_kept_packages() {
        let whole = ratings(&[]);
        // sklearn.metrics.cohen_kappa_score, statsmodels fleiss_kappa, krippendorff.alpha (nominal)
        near(cohen(&whole.pair(0, 1), 3), 0.6170212765957447);
        near(fleiss(&whole), 0.5744680851063829);
        let gaps = ratings(&[(10, 0), (6, 1), (11, 1), (0, 2)]);
        near(krippendorff(&gaps), 0.5400593471810089);
        near(observed(&whole.pair(0, 1)), 9.0 / 12.0);
        assert_eq!(gaps.pair(0, 1).len(), 9);
    }

    #[test]
    fn what_is_not_defined_is_none() {
        let alike = Ratings { labels: vec!["x".into()], items: vec![vec![Some(0), Some(0)]; 4] };
        assert_eq!(cohen(&alike.pair(0, 1), 1), None);
        assert_eq!((fleiss(&alike), krippendorff(&alike)), (None, None));
        let nothing = Ratings::default();
        assert_eq!((fleiss(&nothing), krippendorff(&nothing)), (None, None));
        assert_eq!((cohen(&[], 3), observed(&[])), (None, None));
        assert_eq!(bootstrap(&[0; 0], 100, 0.95, 1, |_| None), None);
    }

    #[test]
    fn scores_are_those_of_scikit_learn() {
        let pairs = ratings(&[]).pair(0, 1);
        let of = |label| Score::of(label, &pairs);
        assert_eq!((of(0).precision, of(0).recall, of(0).support), (Some(0.75), Some(0.75), 4));
        near(of(1).f1, 0.8);
        near(of(2).f1, 2.0 / 3.0);
        assert_eq!(of(9), Score { precision: None, recall: None, f1: None, support: 0 });
    }

    #[test]
    fn an_interval_holds_the_value_and_is_the_same_every_time() {
        let pairs: Vec<(usize, usize)> =
            (0..200).map(|at| (at % 2, if at % 10 == 0 { 1 - at % 2 } else { at % 2 })).collect();
        let interval = |seed| bootstrap(&pairs, 2000, 0.95, seed, observed).unwrap();
        let (low, high) = interval(1);
        // A share of 0.9 of 200 has a standard error of 0.0212.
        assert!((low - 0.858).abs() < 0.012 && (high - 0.94).abs() < 0.012, "{low} {high}");
        assert_eq!(interval(1), interval(1));
    }
}
