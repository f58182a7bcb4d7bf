//! How shards had a part in a statement: what tells a scatter from a statement that one shard answered whole.

/// One execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Single,
    /// rows of several shards, one after another
    Concatenated,
    /// put together while they came
    Combined,
    /// brought together in a scratch database
    Gathered,
    /// the same on every shard
    Everywhere,
}

impl Way {
    pub const ALL: [Self; 5] = [
        Self::Single,
        Self::Concatenated,
        Self::Combined,
        Self::Gathered,
        Self::Everywhere,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Concatenated => "concatenated",
            Self::Combined => "combined",
            Self::Gathered => "gathered",
            Self::Everywhere => "everywhere",
        }
    }
}

/// Many executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ways([u64; Way::ALL.len()]);

impl Ways {
    /// None: no server had a part in it.
    pub fn record(&mut self, way: Option<Way>) {
        if let Some(way) = way {
            self.0[way as usize] += 1;
        }
    }

    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    #[must_use]
    pub fn of(&self, way: Way) -> u64 {
        self.0[way as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_is_counted_apart() {
        let mut ways = Ways::default();
        for (n, way) in Way::ALL.into_iter().enumerate() {
            assert_eq!(way as usize, n, "its place in the list");
            for _ in 0..=n {
                ways.record(Some(way));
            }
        }
        ways.record(None);
        let twice = {
            let mut sum = ways;
            sum.add(&ways);
            sum
        };
        assert_eq!(Way::ALL.map(|way| ways.of(way)), [1, 2, 3, 4, 5]);
        assert_eq!(Way::ALL.map(|way| twice.of(way)), [2, 4, 6, 8, 10]);
    }
}
