//! Values of a sequence for shard keys that an INSERT leaves out. They are drawn on the home shard only, so that they are
//! unique over all shards; values that are not used are lost, as sequences may have gaps. It does not know what the
//! values are for.

use crate::shard::{ShardId, Unmapped};
use std::num::TryFromIntError;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// Most values one statement draws.
const BATCH_MAX: usize = 10_000;
/// Most values drawn for one INSERT before it is given up: at least this many, and this many for each row.
const DRAWN_MAX: usize = 100_000;
const DRAWN_PER_ROW_MAX: usize = 64;

/// The draw is acknowledged only when it is on disk: a value that a crash takes back would be given twice.
const DRAW: &str = "WITH durable AS MATERIALIZED (SELECT pg_catalog.set_config('synchronous_commit', \
    CASE pg_catalog.current_setting('synchronous_commit') WHEN 'off' THEN 'on' \
    ELSE pg_catalog.current_setting('synchronous_commit') END, true)) \
    SELECT pg_catalog.nextval($1::pg_catalog.text::pg_catalog.regclass) \
    FROM durable, pg_catalog.generate_series(1, $2::pg_catalog.int4)";

#[derive(Debug, thiserror::Error)]
pub enum DrawError {
    #[error("the sequence cannot be drawn from: {0}")]
    Server(#[from] tokio_postgres::Error),
    #[error("{count} values at once are more than the {BATCH_MAX} that may be drawn")]
    TooMany { count: usize },
    #[error(transparent)]
    Unmapped(#[from] Unmapped),
    #[error("{drawn} values were drawn and too few of them lie on one shard")]
    NoneFits { drawn: usize },
}

impl From<TryFromIntError> for DrawError {
    fn from(_: TryFromIntError) -> Self {
        Self::TooMany { count: usize::MAX }
    }
}

/// `count` new values of a sequence, in the order drawn. `sequence` is SQL text for its name, see
/// [`crate::catalog::QualifiedName::quoted`].
pub async fn draw(client: &Client, sequence: &str, count: usize) -> Result<Vec<i64>, DrawError> {
    if count > BATCH_MAX {
        return Err(DrawError::TooMany { count });
    }
    let count = i32::try_from(count)?;
    let rows = client
        .query_typed(DRAW, &[(&sequence, Type::TEXT), (&count, Type::INT4)])
        .await?;
    rows.iter()
        .map(|row| row.try_get(0).map_err(DrawError::from))
        .collect()
}

/// `rows` new values that all lie on one shard: on `wanted`, or on whichever has enough of them first. The values of
/// the other shards are thrown away. `locate` says where a row with this value belongs.
pub async fn draw_on_one_shard(
    client: &Client,
    sequence: &str,
    rows: usize,
    wanted: Option<ShardId>,
    locate: impl Fn(i64) -> Result<ShardId, Unmapped>,
) -> Result<(ShardId, Vec<i64>), DrawError> {
    let mut sorted = Sorted::new(rows, wanted);
    while sorted.drawn < rows.saturating_mul(DRAWN_PER_ROW_MAX).max(DRAWN_MAX) {
        for value in draw(client, sequence, sorted.next_batch()).await? {
            let shard = locate(value)?;
            if let Some(full) = sorted.put(shard, value) {
                return Ok((shard, full));
            }
        }
    }
    Err(DrawError::NoneFits {
        drawn: sorted.drawn,
    })
}

/// Drawn values by shard.
struct Sorted {
    rows: usize,
    wanted: Option<ShardId>,
    drawn: usize,
    batches: u32,
    shards: Vec<(ShardId, Vec<i64>)>,
}

impl Sorted {
    fn new(rows: usize, wanted: Option<ShardId>) -> Self {
        Self {
            rows,
            wanted,
            drawn: 0,
            batches: 0,
            shards: Vec::new(),
        }
    }

    /// As many as are still needed if the next ones fall well, and more each time they do not.
    fn next_batch(&mut self) -> usize {
        let most = self
            .shards
            .iter()
            .map(|(_, values)| values.len())
            .max()
            .unwrap_or(0);
        let needed = self.rows.saturating_sub(most).max(1);
        self.batches += 1;
        needed.saturating_mul(self.batches as usize).min(BATCH_MAX)
    }

    /// The values, when this one makes them enough.
    fn put(&mut self, shard: ShardId, value: i64) -> Option<Vec<i64>> {
        self.drawn += 1;
        if self.wanted.is_some_and(|wanted| wanted != shard) {
            return None;
        }
        let position = self
            .shards
            .iter()
            .position(|(known, _)| *known == shard)
            .unwrap_or_else(|| {
                self.shards.push((shard, Vec::new()));
                self.shards.len() - 1
            });
        let values = &mut self.shards[position].1;
        values.push(value);
        (values.len() >= self.rows).then(|| std::mem::take(values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_shard_with_enough_values_gets_the_rows() {
        let mut sorted = Sorted::new(2, None);
        assert_eq!(sorted.next_batch(), 2);
        assert_eq!(sorted.put(ShardId(0), 1), None);
        assert_eq!(sorted.put(ShardId(1), 2), None);
        assert_eq!(sorted.next_batch(), 2);
        assert_eq!(sorted.put(ShardId(1), 3), Some(vec![2, 3]));
    }

    #[test]
    fn a_wanted_shard_is_waited_for() {
        let mut sorted = Sorted::new(1, Some(ShardId(1)));
        assert_eq!(sorted.put(ShardId(0), 1), None);
        assert_eq!(sorted.put(ShardId(0), 2), None);
        assert_eq!(sorted.put(ShardId(1), 3), Some(vec![3]));
        assert_eq!(sorted.drawn, 3);
    }

    #[test]
    fn batches_grow_and_are_bounded() {
        let mut sorted = Sorted::new(9_000, None);
        assert_eq!(sorted.next_batch(), 9_000);
        assert_eq!(sorted.next_batch(), BATCH_MAX);
    }
}
