//! Which shards a statement touched, small enough to be counted with every statement. Shards are numbers here.

/// Shards from 63 on share one bit: `count` stays exact, `distinct` counts them as one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet {
    mask: u64,
    count: u16,
}

impl ShardSet {
    /// Nothing was sent anywhere: a refusal, an answer of pgshunt's own.
    pub const NONE: Self = Self { mask: 0, count: 0 };

    #[must_use]
    pub fn one(shard: u16) -> Self {
        Self {
            mask: Self::bit(shard),
            count: 1,
        }
    }

    /// Every shard of a database with `shards` of them.
    #[must_use]
    pub fn all(shards: u16) -> Self {
        (0..shards).collect()
    }

    /// How many shards one execution touched.
    #[must_use]
    pub fn count(self) -> u16 {
        self.count
    }

    fn bit(shard: u16) -> u64 {
        1 << shard.min(63)
    }
}

/// From shards that are each named once.
impl FromIterator<u16> for ShardSet {
    fn from_iter<I: IntoIterator<Item = u16>>(shards: I) -> Self {
        shards.into_iter().fold(Self::NONE, |set, shard| Self {
            mask: set.mask | Self::bit(shard),
            count: set.count.saturating_add(1),
        })
    }
}

/// The shards of many executions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardTally {
    mask: u64,
    touches: u64,
}

impl ShardTally {
    pub fn record(&mut self, set: ShardSet) {
        self.mask |= set.mask;
        self.touches += u64::from(set.count);
    }

    pub fn add(&mut self, other: &Self) {
        self.mask |= other.mask;
        self.touches += other.touches;
    }

    /// Different shards touched so far.
    #[must_use]
    pub fn distinct(&self) -> u32 {
        self.mask.count_ones()
    }

    /// Shards touched, counted once an execution; divided by the calls it tells a scatter from a statement by key.
    #[must_use]
    pub fn touches(&self) -> u64 {
        self.touches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_by_key_is_told_from_a_scatter() {
        let (mut by_key, mut scatter) = (ShardTally::default(), ShardTally::default());
        for shard in 0..4 {
            by_key.record(ShardSet::one(shard));
            scatter.record(ShardSet::all(4));
        }
        assert_eq!((by_key.distinct(), by_key.touches()), (4, 4));
        assert_eq!((scatter.distinct(), scatter.touches()), (4, 16));
    }

    #[test]
    fn shards_past_the_last_bit_are_counted() {
        assert_eq!(ShardSet::all(100).count(), 100);
        assert_eq!(ShardSet::one(65_535).count(), 1);
        assert_eq!(ShardSet::NONE.count(), 0);
    }
}
