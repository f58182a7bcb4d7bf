//! INSERT into a sharded table: the key of every row, or the draw of keys that the statement leaves to the table's
//! identity or serial.

use super::Statement;
use super::data::{is_sharded, tuples};
use crate::catalog::{Column, ColumnDefault, QualifiedName};
use crate::config::ShardedTable;
use crate::route::{DrawEdit, EditPart, KeyDraw, KeyTuple, Plan, Refusal, Routing, TextAnchor};
use crate::sql::edit::{InsertPlaces, insert_places};
use crate::sql::name::quote_ident;
use crate::sql::statement::{
    Facts, InsertFacts, InsertShape, InsertedKey, Overriding, Placement, WriteFacts,
};
use crate::wire::sqlstate::SqlState;
use smallvec::SmallVec;

/// `pg_type.oid` of varchar; its modifier is the length and four.
const VARCHAR: u32 = 1043;

impl Statement<'_> {
    pub(super) fn insert_sharded(
        &self,
        facts: &Facts,
        write: &WriteFacts,
        insert: &InsertFacts,
        keyspace: usize,
        plan: &mut Plan,
    ) -> Result<(), Refusal> {
        let Some((target, Placement::Sharded(index))) =
            facts.touched.get(write.target).map(|t| (t, t.placement))
        else {
            return Ok(());
        };
        let Some(table) = self.context.database.tables.get(index) else {
            return Ok(());
        };
        self.key_stays(facts, target, &[])?;
        self.overriding(insert, table, &target.table)?;
        let sources = facts
            .touched
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != write.target)
            .map(|(_, touched)| touched);
        let Some(mut keys) = tuples(sources.clone()) else {
            return Err(Refusal::unsupported(
                format!(
                    "INSERT … SELECT reads several shards {}",
                    self.context.shard_names()
                ),
                "Name the key of every sharded table that is read.",
            ));
        };
        let rows = match &insert.selected {
            Some(selected) => std::slice::from_ref(selected),
            None => insert.rows.as_slice(),
        };
        if self.draws(rows, table, &target.table)? {
            if sources.clone().any(is_sharded) || facts.modifying_cte {
                return Err(self.no_key(
                    table,
                    "is drawn, while the statement also touches sharded tables",
                ));
            }
            plan.draw = Some(self.key_draw(insert, table, &target.table, keyspace)?);
            "the key is drawn from the table's sequence".clone_into(&mut plan.because);
        }
        plan.key_lengths = self.key_lengths(table, &target.table);
        for row in rows {
            keys.extend(self.row_tuples(row, table)?);
        }
        plan.routing = Routing::ByKey {
            keyspace,
            tuples: keys,
        };
        if plan.because.is_empty() {
            "the key of every row is given".clone_into(&mut plan.because);
        }
        plan.multi_refusal = Some(Refusal::unsupported(
            "one INSERT with rows of several shards",
            "Insert the rows of each shard with a statement of their own; writes that span shards come with two-phase commit.",
        ));
        Ok(())
    }

    /// What `varchar(n)` leaves of each key column.
    fn key_lengths(
        &self,
        table: &ShardedTable,
        name: &QualifiedName,
    ) -> SmallVec<[Option<u32>; 1]> {
        let length = |column: &String| {
            let column = self.column(name, column)?;
            let length = u32::try_from(column.type_modifier - 4).ok()?;
            (column.type_oid == VARCHAR).then_some(length)
        };
        table.key.iter().map(length).collect()
    }

    fn no_key(&self, table: &ShardedTable, why: &str) -> Refusal {
        Refusal::unsupported(
            format!(
                "the shard key ({}) of \"{}\" {why}",
                table.key.join(", "),
                table.name
            ),
            "Give the key as a literal or a parameter.",
        )
    }

    /// OVERRIDING USER VALUE lets the sequence win over the values that are written.
    fn overriding(
        &self,
        insert: &InsertFacts,
        table: &ShardedTable,
        name: &QualifiedName,
    ) -> Result<(), Refusal> {
        let identity = |column: &String| {
            let default = self.column(name, column).map(|column| &column.default);
            matches!(
                default,
                Some(ColumnDefault::IdentityAlways(_) | ColumnDefault::IdentityByDefault(_))
            )
        };
        if insert.overriding == Overriding::User && table.key.iter().any(identity) {
            return Err(self.no_key(table, "is an identity column under OVERRIDING USER VALUE"));
        }
        Ok(())
    }

    fn column(&self, table: &QualifiedName, column: &str) -> Option<&Column> {
        self.context.catalog.relations.get(table)?.column(column)
    }

    /// Is the key to be drawn? All rows alike, and only a key of one column.
    fn draws(
        &self,
        rows: &[Vec<InsertedKey>],
        table: &ShardedTable,
        name: &QualifiedName,
    ) -> Result<bool, Refusal> {
        let left_out =
            |key: &InsertedKey| matches!(key, InsertedKey::Missing | InsertedKey::DefaultWord);
        let some = rows.iter().flatten().any(left_out);
        if !some {
            return Ok(false);
        }
        let missing = table
            .key
            .iter()
            .enumerate()
            .find(|(at, _)| rows.iter().any(|row| row.get(*at).is_some_and(left_out)));
        let column = missing
            .map(|(_, column)| column.as_str())
            .unwrap_or_default();
        match self.column(name, column).map(|column| &column.default) {
            Some(default) if default.sequence().is_some() => {}
            Some(ColumnDefault::None) | None => {
                return Err(Refusal::new(
                    SqlState::NOT_NULL_VIOLATION,
                    format!(
                        "null value in the shard key column \"{column}\" of \"{}\"",
                        table.name
                    ),
                    Some("A row's key says which shard holds the row: give it a value.".to_owned()),
                ));
            }
            Some(_) => {
                return Err(self.no_key(table, "is left to a default that the server computes"));
            }
        }
        if table.key.len() > 1 {
            return Err(self.no_key(
                table,
                "has several columns, one of which is left to its sequence",
            ));
        }
        if !rows.iter().flatten().all(left_out) {
            return Err(self.no_key(table, "is given in some rows and left out in others"));
        }
        Ok(true)
    }

    fn row_tuples(
        &self,
        row: &[InsertedKey],
        table: &ShardedTable,
    ) -> Result<Vec<KeyTuple>, Refusal> {
        let mut tuples = vec![KeyTuple::new()];
        for key in row {
            let values = match key {
                InsertedKey::Value(value) => std::slice::from_ref(value),
                InsertedKey::AnyOf(values) => values.as_slice(),
                InsertedKey::Missing | InsertedKey::DefaultWord => return Ok(Vec::new()),
                InsertedKey::Null => {
                    return Err(crate::route::resolve::null_key(&self.keyspace_name(table)));
                }
                InsertedKey::Unknown => {
                    return Err(self.no_key(
                        table,
                        "is an expression whose value is not known beforehand",
                    ));
                }
            };
            tuples = tuples
                .iter()
                .flat_map(|tuple| {
                    values.iter().map(move |value| {
                        let mut longer = tuple.clone();
                        longer.push(value.clone());
                        longer
                    })
                })
                .collect();
        }
        Ok(tuples)
    }

    fn keyspace_name(&self, table: &ShardedTable) -> String {
        self.context
            .database
            .keyspaces
            .get(table.keyspace)
            .map(|keyspace| keyspace.name.clone())
            .unwrap_or_default()
    }

    fn key_draw(
        &self,
        insert: &InsertFacts,
        table: &ShardedTable,
        name: &QualifiedName,
        keyspace: usize,
    ) -> Result<KeyDraw, Refusal> {
        let unclear = || self.no_key(table, "is left out at a place where it cannot be put in");
        let column = table
            .key
            .first()
            .and_then(|key| self.column(name, key))
            .ok_or_else(unclear)?;
        let sequence = column.default.sequence().ok_or_else(unclear)?;
        let key_type = self
            .context
            .database
            .keyspaces
            .get(keyspace)
            .and_then(|k| k.types.first())
            .copied()
            .ok_or_else(unclear)?;
        let places = insert_places(self.text, self.tokens).ok_or_else(unclear)?;
        let always = matches!(column.default, ColumnDefault::IdentityAlways(_))
            && insert.overriding == Overriding::Nothing;
        let mut edits = Edits {
            places: &places,
            slots: &self.lifted.slots,
            edits: Vec::new(),
            always,
        };
        match &insert.shape {
            InsertShape::DefaultValues => edits.default_values(&column.name).ok_or_else(unclear)?,
            InsertShape::Rows { .. } => edits
                .rows(&insert.rows, insert.key_position, &column.name)
                .ok_or_else(unclear)?,
            InsertShape::Query => {
                return Err(self.no_key(table, "is left out of an INSERT … SELECT"));
            }
        }
        let rows = places.rows.len().max(1);
        Ok(KeyDraw {
            keyspace,
            key_type,
            sequence: sequence.quoted(),
            rows,
            edits: edits.edits,
        })
    }
}

struct Edits<'a> {
    places: &'a InsertPlaces,
    slots: &'a [crate::sql::lift::Span],
    edits: Vec<DrawEdit>,
    /// GENERATED ALWAYS: a written value needs OVERRIDING SYSTEM VALUE
    always: bool,
}

const OVERRIDING: &str = "OVERRIDING SYSTEM VALUE ";

impl Edits<'_> {
    fn push(&mut self, at: usize, remove: usize, insert: EditPart) {
        self.edits.push(DrawEdit {
            at: TextAnchor::of(at, self.slots),
            remove,
            insert,
        });
    }

    fn default_values(&mut self, key: &str) -> Option<()> {
        let words = self.places.default_values.clone()?;
        let overriding = if self.always { OVERRIDING } else { "" };
        self.push(
            words.start,
            words.len(),
            EditPart::Text(format!("({}) {overriding}VALUES (", quote_ident(key))),
        );
        self.push(
            words.end,
            0,
            EditPart::Value {
                row: 0,
                before: "",
                after: ")",
            },
        );
        Some(())
    }

    fn rows(
        &mut self,
        rows: &[Vec<InsertedKey>],
        position: Option<usize>,
        key: &str,
    ) -> Option<()> {
        if rows.len() != self.places.rows.len() {
            return None;
        }
        let words = rows
            .iter()
            .flatten()
            .all(|key| *key == InsertedKey::DefaultWord);
        let missing = rows
            .iter()
            .flatten()
            .all(|key| *key == InsertedKey::Missing);
        let list = self.places.list;
        if let (Some(list), true) = (list, missing) {
            self.push(list, 0, EditPart::Text(format!("{}, ", quote_ident(key))));
        }
        if self.always {
            self.push(self.places.values, 0, EditPart::Text(OVERRIDING.to_owned()));
        }
        let places = self.places;
        for (row, place) in places.rows.iter().enumerate() {
            if missing && list.is_some() {
                self.push(
                    place.open,
                    0,
                    EditPart::Value {
                        row,
                        before: "",
                        after: ", ",
                    },
                );
            } else if missing {
                // the row ends just before the key: it becomes the last element
                (position? == place.elements.len()).then_some(())?;
                self.push(
                    place.close,
                    0,
                    EditPart::Value {
                        row,
                        before: ", ",
                        after: "",
                    },
                );
            } else if words {
                let at = place.elements.get(position?)?.clone();
                self.push(
                    at.start,
                    at.len(),
                    EditPart::Value {
                        row,
                        before: "",
                        after: "",
                    },
                );
            } else {
                return None;
            }
        }
        Some(())
    }
}
