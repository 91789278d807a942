//! Shapes: what a member of a request may be.

use super::pattern::Pattern;

/// Which bounds apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::gateway) enum Profile {
    #[default]
    Today,
    /// The bounds of 2018, which older test suites expect.
    Year2018,
}

/// A member of a structure.
#[derive(Debug)]
pub(in crate::gateway) struct Member {
    pub(in crate::gateway) name: &'static str,
    pub(in crate::gateway) shape: &'static Shape,
    pub(in crate::gateway) required: Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::gateway) enum Required {
    No,
    Yes,
    /// Only in the profile of 2018.
    In2018,
}

/// The least and the greatest value, or length.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Bounds {
    pub(in crate::gateway) min: Option<i64>,
    pub(in crate::gateway) max: Option<i64>,
    /// The greatest one in the profile of 2018, if it differs.
    pub(in crate::gateway) max_2018: Option<i64>,
}

impl Bounds {
    pub(in crate::gateway) const NONE: Self = Self { min: None, max: None, max_2018: None };

    pub(in crate::gateway) const fn new(min: i64, max: i64) -> Self {
        Self { min: Some(min), max: Some(max), max_2018: None }
    }

    pub(in crate::gateway) const fn at_least(min: i64) -> Self {
        Self { min: Some(min), ..Self::NONE }
    }

    pub(in crate::gateway) const fn at_most(max: i64) -> Self {
        Self { max: Some(max), ..Self::NONE }
    }

    pub(in crate::gateway) const fn in_2018(self, max: i64) -> Self {
        Self { max_2018: Some(max), ..self }
    }

    pub(super) fn max_in(&self, profile: Profile) -> Option<i64> {
        match profile {
            Profile::Today => self.max,
            Profile::Year2018 => self.max_2018.or(self.max),
        }
    }
}

/// The type of a member, and its bounds.
#[derive(Debug)]
pub(in crate::gateway) enum Shape {
    Text {
        length: Bounds,
        pattern: Option<Pattern>,
        values: &'static [&'static str],
    },
    Integer(Bounds),
    Boolean,
    /// The length is that of the bytes.
    Blob(Bounds),
    Time,
    /// Texts, each with a length.
    Texts {
        count: Bounds,
        each: Bounds,
    },
    Structures {
        count: Bounds,
        members: &'static [Member],
        class: &'static str,
    },
    /// Texts by name, with the lengths of names and of texts.
    TextMap {
        count: Bounds,
        names: Bounds,
        texts: Bounds,
    },
    Structure(&'static [Member]),
}
