//! The mean of paired differences, and how sure it is.

/// Quantiles of Student's t at 97.5%, by degrees of freedom from one on.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// By how much one figure is more than another, in the mean over seeds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Difference {
    /// In the mean.
    pub mean: f64,
    /// The 95% interval of the mean; none of a single pair.
    pub interval: Option<(f64, f64)>,
}

impl Difference {
    /// Of pairs in which both have a figure; `None` if there are none.
    pub fn paired(one: &[Option<f64>], other: &[Option<f64>]) -> Option<Difference> {
        let pairs = one.iter().zip(other);
        let differences: Vec<f64> = pairs.filter_map(|(one, other)| Some((*other)? - (*one)?)).collect();
        if differences.is_empty() {
            return None;
        }
        let count = differences.len() as f64;
        let mean = differences.iter().sum::<f64>() / count;
        let freedom = differences.len() - 1;
        let interval = (freedom > 0).then(|| {
            let squares: f64 = differences.iter().map(|difference| (difference - mean).powi(2)).sum();
            let around = t(freedom) * (squares / freedom as f64 / count).sqrt();
            (mean - around, mean + around)
        });
        Some(Difference { mean, interval })
    }

    /// Whether the interval leaves out zero.
    pub fn is_significant(&self) -> bool {
        self.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0)
    }
}

/// Beyond the table within a thousandth.
fn t(freedom: usize) -> f64 {
    T.get(freedom - 1).copied().unwrap_or(1.96 + 2.4 / freedom as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    #[test]
    fn the_interval_is_students() {
        // Differences 1, 2, 3: mean 2, deviation 1, 4.303 / sqrt(3) = 2.484 around.
        let difference = Difference::paired(&some(&[1.0, 5.0, 2.0]), &some(&[2.0, 7.0, 5.0])).expect("pairs");
        let (low, high) = difference.interval.expect("three pairs");
        assert_eq!(difference.mean, 2.0);
        assert!((low + 0.4843).abs() < 1e-3 && (high - 4.4843).abs() < 1e-3, "{low} {high}");
        assert!(!difference.is_significant());
        let sure = Difference::paired(&some(&[1.0, 5.0, 2.0]), &some(&[3.0, 7.1, 4.0])).expect("pairs");
        assert!(sure.is_significant());
    }

    #[test]
    fn the_same_is_no_difference_and_one_pair_proves_nothing() {
        let same = Difference::paired(&some(&[1.0, 2.0]), &some(&[1.0, 2.0])).expect("pairs");
        assert_eq!((same.mean, same.interval, same.is_significant()), (0.0, Some((0.0, 0.0)), false));
        let one = Difference::paired(&[Some(1.0), None], &some(&[9.0, 2.0])).expect("a pair");
        assert_eq!((one.mean, one.interval, one.is_significant()), (8.0, None, false));
        assert_eq!(Difference::paired(&[None], &some(&[1.0])), None);
    }
}
