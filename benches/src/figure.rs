//! A figure: samples of ours, samples of the reference, and the goal that their ratio is held to.

use serde::Serialize;
use std::fmt;

/// One measured figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// The unit of the samples.
    pub unit: &'static str,
    /// Our samples.
    pub ours: Samples,
    /// What stands beside it.
    pub reference: Option<Reference>,
    /// What is to be reached, where something is.
    pub goal: Option<Goal>,
}

/// The samples of the other side.
#[derive(Debug, Serialize)]
pub struct Reference {
    pub label: String,
    pub samples: Samples,
}

/// What is to be reached.
#[derive(Debug, Serialize)]
pub struct Goal {
    kind: GoalKind,
    limit: f64,
    reached: f64,
    is_met: bool,
}

/// How a figure is compared with its goal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalKind {
    /// Our median divided by the reference's is at most the limit.
    RatioAtMost,
    /// Our median divided by the reference's is at least the limit.
    RatioAtLeast,
    /// Our median is at most the limit.
    AtMost,
    /// Our median is at least the limit.
    AtLeast,
}

/// Sorted samples and what is usually read off them.
#[derive(Debug, Serialize)]
pub struct Samples {
    n: usize,
    median: f64,
    min: f64,
    p99: f64,
    all: Vec<f64>,
}

impl Samples {
    /// Sorts the samples. There is at least one.
    pub fn new(mut all: Vec<f64>) -> Self {
        assert!(!all.is_empty(), "a figure needs samples");
        all.sort_by(f64::total_cmp);
        let at = |share: f64| all[((all.len() - 1) as f64 * share).round() as usize];
        Self { n: all.len(), median: at(0.5), min: all[0], p99: at(0.99), all }
    }

    /// The sample in the middle.
    pub fn median(&self) -> f64 {
        self.median
    }
}

impl Figure {
    /// A figure with nothing beside it yet.
    pub fn new(name: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Self {
        Self { name: name.into(), unit, ours: Samples::new(ours), reference: None, goal: None }
    }

    /// Puts the reference beside it.
    pub fn beside(mut self, label: impl Into<String>, samples: Vec<f64>) -> Self {
        self.reference = Some(Reference { label: label.into(), samples: Samples::new(samples) });
        self
    }

    /// Holds it to a goal. A ratio needs a reference.
    pub fn goal(mut self, kind: GoalKind, limit: f64) -> Self {
        let reached = match kind {
            GoalKind::RatioAtMost | GoalKind::RatioAtLeast => {
                let Some(reference) = &self.reference else { return self };
                self.ours.median() / reference.samples.median()
            }
            GoalKind::AtMost | GoalKind::AtLeast => self.ours.median(),
        };
        let is_met = match kind {
            GoalKind::AtLeast | GoalKind::RatioAtLeast => reached >= limit,
            GoalKind::AtMost | GoalKind::RatioAtMost => reached <= limit,
        };
        self.goal = Some(Goal { kind, limit, reached, is_met });
        self
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Samples { n, median, p99, .. } = &self.ours;
        write!(f, "{:<34} {median:>9.3} {} (n {n}, p99 {p99:.3})", self.name, self.unit)?;
        if let Some(Reference { label, samples }) = &self.reference {
            let ratio = median / samples.median();
            write!(f, "; {label} {:.3}; ratio {ratio:.3}", samples.median())?;
        }
        if let Some(Goal { kind, limit, is_met, .. }) = &self.goal {
            let word = match kind {
                GoalKind::RatioAtMost => "ratio at most",
                GoalKind::RatioAtLeast => "ratio at least",
                GoalKind::AtMost => "at most",
                GoalKind::AtLeast => "at least",
            };
            write!(f, "; goal {word} {limit}: {}", if *is_met { "met" } else { "MISSED" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_by_medians() {
        let figure = Figure::new("x", "s", vec![3.0, 1.0, 2.0]).beside("old", vec![4.0]);
        let goal = |kind, limit| {
            let again = Figure::new("x", "s", vec![3.0, 1.0, 2.0]).beside("old", vec![4.0]);
            again.goal(kind, limit).goal.unwrap().is_met
        };
        assert_eq!(figure.ours.median(), 2.0);
        assert!(goal(GoalKind::RatioAtMost, 0.5));
        assert!(!goal(GoalKind::RatioAtMost, 0.4));
        assert!(goal(GoalKind::RatioAtLeast, 0.5));
        assert!(!goal(GoalKind::RatioAtLeast, 0.6));
        assert!(goal(GoalKind::AtLeast, 2.0));
        assert!(!goal(GoalKind::AtMost, 1.9));
    }
}
