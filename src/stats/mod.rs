//! Statistics as plain functions of numbers and labels: no rows, no files, no chance but a seed's.
//!
//! Reference values of the tests are those of SciPy, scikit-learn, statsmodels and the Python package
//! `krippendorff`; each says which.

mod agreement;
mod calibration;
mod describe;
mod dice;
mod rank;
mod sample;

pub use agreement::{Ratings, Score, bootstrap, cohen, fleiss, krippendorff, observed};
pub use calibration::{Bin, calibrate};
pub use describe::{quantile, slope, top_share};
pub use dice::Dice;
pub use rank::{adjust, permutation_p, spearman};
pub use sample::{place, sample_size};
