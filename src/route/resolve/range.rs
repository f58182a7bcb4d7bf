//! Ranges of keys and the values of one execution to shards. What a limit means is certain, or no shard is left out; whether
//! PostgreSQL would refuse its text is for the shards to say.

use super::{Miss, is_integer, source_values, unquoted};
use crate::route::{ParamValue, ValueSource, Values};
use crate::shard::{KeyType, KeyValue, Keyspace, ShardSet};
use crate::sql::statement::{End, Limit};
use std::cmp::Ordering;
use std::ops::Bound;

/// A limit among the values of the key's type.
enum At {
    Value(KeyValue),
    /// an integer below all of them
    Below,
    Above,
}

/// The shards that may hold keys within all limits.
pub(super) fn between(
    keyspace: &Keyspace,
    limits: &[Limit],
    key_type: KeyType,
    values: &dyn Values,
) -> Result<ShardSet, Miss> {
    let (mut low, mut high) = (Bound::Unbounded, Bound::Unbounded);
    let mut nothing = false;
    for limit in limits {
        // NULL is neither below nor above
        let Some(at) = at(&limit.value, key_type, values)? else {
            nothing = true;
            continue;
        };
        match (limit.end, at) {
            (End::Low, At::Below) | (End::High, At::Above) => {}
            (End::Low, At::Above) | (End::High, At::Below) => nothing = true,
            (_, At::Value(value)) if !key_type.admits(&value) => return Err(Miss::Ambiguous),
            (End::Low, At::Value(value)) => {
                low = narrower(low, from(value, limit.inclusive), Ordering::Greater);
            }
            (End::High, At::Value(value)) => {
                let bound = bound(value, limit.inclusive);
                high = narrower(high, bound, Ordering::Less);
            }
        }
    }
    if nothing {
        return Ok(ShardSet::new());
    }
    Ok(keyspace.shards_between(low.as_ref(), high.as_ref()))
}

fn bound(value: KeyValue, inclusive: bool) -> Bound<KeyValue> {
    if inclusive {
        Bound::Included(value)
    } else {
        Bound::Excluded(value)
    }
}

/// Whole numbers and days have a next one, so that `> 99` does not ask for the shard that ends before 100.
fn from(value: KeyValue, inclusive: bool) -> Bound<KeyValue> {
    let next = match &value {
        KeyValue::Int(n) => n.checked_add(1).map(KeyValue::Int),
        KeyValue::Date(n) => n.checked_add(1).map(KeyValue::Date),
        _ => None,
    };
    match next {
        Some(next) if !inclusive => Bound::Included(next),
        _ => bound(value, inclusive),
    }
}

/// Of two low ends the greater, of two high ends the less; where both are at the same value, that without it.
fn narrower(a: Bound<KeyValue>, b: Bound<KeyValue>, wins: Ordering) -> Bound<KeyValue> {
    let order = match (&a, &b) {
        (Bound::Unbounded, _) => return b,
        (_, Bound::Unbounded) => return a,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            x.cmp(y)
        }
    };
    match (order, &a) {
        (Ordering::Equal, Bound::Excluded(_)) => a,
        (Ordering::Equal, _) => b,
        _ if order == wins => a,
        _ => b,
    }
}

/// None for NULL.
fn at(source: &ValueSource, key_type: KeyType, values: &dyn Values) -> Result<Option<At>, Miss> {
    match source_values(source, key_type, values, false) {
        Ok(found) => match (found.into_iter().next(), source) {
            (Some(value), _) => Ok(Some(At::Value(value))),
            (None, ValueSource::Param(n)) => match values.param(*n) {
                Some(ParamValue::Null) => Ok(None),
                _ => Err(Miss::Ambiguous),
            },
            // an integer that the type has not, in any width that a literal may have
            (None, ValueSource::Slot(n)) => {
                beyond(values.slot(*n).ok_or(Miss::Ambiguous)?).map(Some)
            }
            (None, _) => Err(Miss::Ambiguous),
        },
        // a text may be an integer of another width, or an error
        Err(_) => Err(Miss::Ambiguous),
    }
}

fn beyond(literal: &[u8]) -> Result<At, Miss> {
    let solid: Vec<u8> = literal
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if unquoted(literal).is_some() || !is_integer(&solid) {
        return Err(Miss::Ambiguous);
    }
    Ok(if solid.starts_with(b"-") {
        At::Below
    } else {
        At::Above
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{KeyspaceKind, ShardId};

    struct Given(Vec<Option<&'static str>>);

    impl Values for Given {
        fn slot(&self, n: usize) -> Option<&[u8]> {
            self.0.get(n)?.map(str::as_bytes)
        }

        fn param(&self, n: usize) -> Option<ParamValue<'_>> {
            Some(match self.0.get(n - 1)? {
                None => ParamValue::Null,
                Some(text) => ParamValue::Text(text.as_bytes()),
            })
        }
    }

    /// [-inf,10) on 0, [10,20) on 1, [20,30) on 2
    fn tens(key_type: KeyType) -> Keyspace {
        let at = |n: &str| key_type.parse_text(n.as_bytes()).ok();
        let ranges = vec![
            (None, at("10"), ShardId(0)),
            (at("10"), at("20"), ShardId(1)),
            (at("20"), at("30"), ShardId(2)),
        ];
        Keyspace {
            name: "tens".into(),
            types: vec![key_type],
            kind: KeyspaceKind::Range { ranges },
        }
    }

    fn limit(said: &str, value: ValueSource) -> Limit {
        Limit {
            end: if said.starts_with('>') {
                End::Low
            } else {
                End::High
            },
            inclusive: said.ends_with('='),
            value,
        }
    }

    fn shards(key_type: KeyType, said: &[(&str, Option<&'static str>)]) -> Option<Vec<u16>> {
        let given = Given(said.iter().map(|(_, value)| *value).collect());
        let limits: Vec<Limit> = said
            .iter()
            .enumerate()
            .map(|(n, (said, value))| match value {
                Some(text) if text.starts_with(' ') => limit(said, ValueSource::Slot(n)),
                _ => limit(said, ValueSource::Param(n + 1)),
            })
            .collect();
        let found = between(&tens(key_type), &limits, key_type, &given).ok()?;
        Some(found.iter().map(|shard| shard.0).collect())
    }

    #[test]
    fn limits_hold_together() {
        let ints = |said: &[_]| shards(KeyType::Integer, said).unwrap();
        assert_eq!(ints(&[("<", Some("10"))]), [0]);
        assert_eq!(ints(&[("<=", Some("10"))]), [0, 1]);
        assert_eq!(ints(&[(">", Some("9")), ("<", Some("20"))]), [1]);
        assert_eq!(
            ints(&[(">", Some("9")), (">", Some("20")), ("<", Some("99"))]),
            [2]
        );
        assert_eq!(ints(&[(">=", Some("30"))]), [] as [u16; 0]);
        assert_eq!(ints(&[("<", Some("5")), (">", Some("5"))]), [] as [u16; 0]);
        assert_eq!(ints(&[("<", Some("5")), (">", None)]), [] as [u16; 0]);
    }

    #[test]
    fn literals_of_a_wider_type_lie_beside_all_values() {
        let ints = |said: &[_]| shards(KeyType::Integer, said);
        let large = Some(" 99999999999999999999");
        assert_eq!(ints(&[("<", large)]), Some(vec![0, 1, 2]));
        assert_eq!(ints(&[(">", large)]), Some(vec![]));
        let small = Some(" - 3000000000");
        assert_eq!(ints(&[(">", small)]), Some(vec![0, 1, 2]));
        assert_eq!(ints(&[("<=", small)]), Some(vec![]));
        // a parameter may be of a wider type, too, or wrong
        assert_eq!(ints(&[(">", Some("3000000000"))]), None);
        assert_eq!(ints(&[(">", Some("ten"))]), None);
        assert_eq!(ints(&[("<", Some(" 10.5"))]), None);
    }

    #[test]
    fn numerics_compare_as_numbers() {
        let numerics = |said: &[_]| shards(KeyType::Numeric, said).unwrap();
        assert_eq!(numerics(&[("<", Some("9.5"))]), [0]);
        assert_eq!(numerics(&[("<", Some("10.00"))]), [0]);
        assert_eq!(
            numerics(&[(">", Some("19.99")), ("<", Some("1e2"))]),
            [1, 2]
        );
        assert_eq!(numerics(&[(">", Some("NaN"))]), [] as [u16; 0]);
    }
}
