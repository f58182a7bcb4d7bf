//! INSERT, UPDATE, DELETE and MERGE: the target, what is assigned, and the keys of the rows put in.

use super::query::{Columns, Ctes};
use super::scope::{Rel, Scope, folded, schema_and_name};
use super::{Analyzer, ContextId, Node, Outcome, Trouble, reaches_sharded};
use crate::catalog::{Relation, RelationKind};
use crate::sql::statement::{
    InsertFacts, InsertShape, InsertedKey, Overriding, Placement, Verb, WriteFacts,
};
use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Insert, Merge, MergeAction,
    MergeInsertKind, MergeUpdateKind, ObjectName, OnConflictAction, OnInsert, Query, SetExpr,
    Statement, TableFactor, TableObject, TableWithJoins, Update, UpdateTableFromKind, Value,
};

impl Analyzer<'_> {
    /// `inside`: the context of a data-modifying CTE; None for the statement itself.
    pub(super) fn modification<'q>(
        &mut self,
        statement: &'q Statement,
        overriding: Overriding,
        ctes: &Ctes<'q>,
        inside: Option<ContextId>,
    ) -> Outcome<Columns> {
        let context = inside.unwrap_or(self.top);
        let (verb, columns, write) = match statement {
            Statement::Insert(insert) => {
                let (columns, write) = self.insert(insert, overriding, ctes, context)?;
                (Verb::Insert, columns, write)
            }
            Statement::Update(update) => {
                let (columns, write) = self.update(update, ctes, context)?;
                (Verb::Update, columns, write)
            }
            Statement::Delete(delete) => {
                let (columns, write) = self.delete(delete, ctes, context)?;
                (Verb::Delete, columns, write)
            }
            Statement::Merge(merge) => {
                let (columns, write) = self.merge_into(merge, ctes, context)?;
                (Verb::Merge, columns, write)
            }
            _ => return Err(Trouble::Unsupported("this kind of statement")),
        };
        if inside.is_none() {
            self.verb = verb;
            self.write = Some(write);
        } else if write
            .assigned
            .iter()
            .any(|(name, _)| self.is_key_column(write.target, name))
        {
            return Err(Trouble::Refused {
                message: "a shard key is assigned in a CTE".to_owned(),
                hint: "Assign it in a statement of its own.",
            });
        }
        Ok(columns)
    }

    fn is_key_column(&self, target: usize, name: &str) -> bool {
        match self
            .instances
            .get(target)
            .map(|instance| instance.placement)
        {
            Some(Placement::Sharded(index)) => self.env.database.tables[index]
                .key
                .iter()
                .any(|key| key == name),
            _ => false,
        }
    }

    /// The target relation, as the first instance of its scope.
    fn target(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
        context: ContextId,
    ) -> Outcome<usize> {
        let TableFactor::Table {
            name, args: None, ..
        } = factor
        else {
            return Err(Trouble::Unsupported("the target"));
        };
        self.no_view_target(name)?;
        let target = self.instances.len();
        self.factor(factor, scope, &None, context)?;
        Ok(target)
    }

    /// Writing through a view over sharded tables is not looked into.
    fn no_view_target(&self, name: &ObjectName) -> Outcome<()> {
        let Some((schema, name)) = schema_and_name(name) else {
            return Err(Trouble::Unsupported("the target's name"));
        };
        let Some((qualified, relation)) =
            self.env
                .catalog
                .resolve(self.env.search_path, schema.as_deref(), &name)
        else {
            return Ok(());
        };
        if relation.kind == RelationKind::View
            && self.env.database.shards.len() > 1
            && reaches_sharded(&self.env, &qualified, relation)
        {
            return Err(Trouble::Refused {
                message: format!("\"{name}\" is a view over sharded tables and is written to"),
                hint: "Write to the table itself.",
            });
        }
        Ok(())
    }

    fn update<'q>(
        &mut self,
        update: &'q Update,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<(Columns, WriteFacts)> {
        if update.output.is_some()
            || update.or.is_some()
            || !update.order_by.is_empty()
            || update.limit.is_some()
            || !update.table.joins.is_empty()
        {
            return Err(Trouble::Unsupported("a clause of the UPDATE"));
        }
        let mut scope = Scope::new(None);
        let target = self.target(&update.table.relation, &mut scope, context)?;
        match &update.from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(items)) => {
                self.from(items, &mut scope, ctes, context)?;
            }
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(Trouble::Unsupported("FROM before SET"));
            }
        }
        let scope = scope;
        let assigned = self.assignments(&update.assignments, &scope, ctes, context)?;
        if let Some(condition) = &update.selection {
            self.filter(condition, &scope, ctes, context)?;
        }
        let columns = self.returning(update.returning.as_ref(), &scope, ctes, context)?;
        Ok((
            columns,
            WriteFacts {
                target,
                assigned,
                insert: None,
            },
        ))
    }

    fn delete<'q>(
        &mut self,
        delete: &'q Delete,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<(Columns, WriteFacts)> {
        if delete.output.is_some()
            || !delete.order_by.is_empty()
            || delete.limit.is_some()
            || !delete.tables.is_empty()
        {
            return Err(Trouble::Unsupported("a clause of the DELETE"));
        }
        let FromTable::WithFromKeyword(from) = &delete.from else {
            return Err(Trouble::Unsupported("DELETE without FROM"));
        };
        let [TableWithJoins { relation, joins }] = from.as_slice() else {
            return Err(Trouble::Unsupported("DELETE from several tables"));
        };
        if !joins.is_empty() {
            return Err(Trouble::Unsupported("DELETE from a join"));
        }
        let mut scope = Scope::new(None);
        let target = self.target(relation, &mut scope, context)?;
        if let Some(items) = &delete.using {
            self.from(items, &mut scope, ctes, context)?;
        }
        let scope = scope;
        if let Some(condition) = &delete.selection {
            self.filter(condition, &scope, ctes, context)?;
        }
        let columns = self.returning(delete.returning.as_ref(), &scope, ctes, context)?;
        Ok((
            columns,
            WriteFacts {
                target,
                assigned: Vec::new(),
                insert: None,
            },
        ))
    }

    /// MERGE is only looked at as far as needed to know what it touches: nothing is concluded from its ON.
    fn merge_into<'q>(
        &mut self,
        merge: &'q Merge,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<(Columns, WriteFacts)> {
        if merge.output.is_some() {
            return Err(Trouble::Unsupported("OUTPUT"));
        }
        let mut scope = Scope::new(None);
        let target = self.target(&merge.table, &mut scope, context)?;
        self.factor(&merge.source, &mut scope, ctes, context)?;
        let scope = scope;
        let apart = self.base.root();
        self.expr(&merge.on, &scope, ctes, apart)?;
        let mut assigned = Vec::new();
        for clause in &merge.clauses {
            if let Some(predicate) = &clause.predicate {
                self.expr(predicate, &scope, ctes, apart)?;
            }
            match &clause.action {
                MergeAction::Insert(insert) => match &insert.kind {
                    MergeInsertKind::Values(values) => {
                        for row in &values.rows {
                            self.exprs(row, &scope, ctes, apart)?;
                        }
                    }
                    _ => return Err(Trouble::Unsupported("INSERT in MERGE")),
                },
                MergeAction::Update(update) => match &update.kind {
                    MergeUpdateKind::Set(assignments) => {
                        assigned.extend(self.assignments(assignments, &scope, ctes, apart)?);
                    }
                    MergeUpdateKind::Wildcard => {
                        return Err(Trouble::Unsupported("UPDATE * in MERGE"));
                    }
                },
                MergeAction::Delete { .. } | MergeAction::DoNothing { .. } => {}
            }
        }
        Ok((
            None,
            WriteFacts {
                target,
                assigned,
                insert: None,
            },
        ))
    }

    fn assignments<'q>(
        &mut self,
        assignments: &'q [Assignment],
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<Vec<(String, Option<crate::sql::statement::ValueSource>)>> {
        let mut assigned = Vec::new();
        for Assignment { target, value } in assignments {
            self.expr(value, scope, ctes, context)?;
            match target {
                AssignmentTarget::ColumnName(name) => {
                    let Some(column) = first_part(name) else {
                        return Err(Trouble::Unsupported("an assignment"));
                    };
                    let type_oid = scope
                        .rels
                        .first()
                        .and_then(|rel| target_node(rel, &column))
                        .map_or(0, |node| self.base.type_of(node));
                    self.note_if_param(value, type_oid);
                    let values = self
                        .constant(value, type_oid)
                        .filter(|values| values.len() == 1);
                    assigned.push((column, values.and_then(|values| values.into_iter().next())));
                }
                AssignmentTarget::Tuple(names) => {
                    for name in names {
                        let Some(column) = first_part(name) else {
                            return Err(Trouble::Unsupported("an assignment"));
                        };
                        assigned.push((column, None));
                    }
                }
            }
        }
        Ok(assigned)
    }

    fn insert<'q>(
        &mut self,
        insert: &'q Insert,
        overriding: Overriding,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<(Columns, WriteFacts)> {
        if !insert.into
            || insert.or.is_some()
            || insert.output.is_some()
            || insert.partitioned.is_some()
            || !insert.after_columns.is_empty()
            || !insert.assignments.is_empty()
        {
            return Err(Trouble::Unsupported("a clause of the INSERT"));
        }
        let TableObject::TableName(name) = &insert.table else {
            return Err(Trouble::Unsupported("the target"));
        };
        self.no_view_target(name)?;
        let Some((schema, table)) = schema_and_name(name) else {
            return Err(Trouble::Unsupported("the target's name"));
        };
        self.sees(&table);
        // the target's rows are the inserted ones: a context of its own, where their keys are facts
        let own = self.base.root();
        let mut scope = Scope::new(None);
        let target = self.instances.len();
        let catalog = self.env.catalog;
        let facts = if let Some((qualified, relation)) =
            catalog.resolve(self.env.search_path, schema.as_deref(), &table)
        {
            self.base_table(qualified, relation, None, &mut scope, own)?;
            let listed = insert
                .columns
                .iter()
                .map(last_part)
                .collect::<Option<Vec<_>>>()
                .ok_or(Trouble::Unsupported("a column list"))?;
            Some(self.inserted(
                insert, relation, &listed, target, overriding, own, ctes, context,
            )?)
        } else {
            let none = no_columns();
            self.unlisted_target(schema.as_deref(), &table, own)?;
            Some(self.inserted(insert, &none, &[], target, overriding, own, ctes, context)?)
        };
        if let Some(rel) = scope.rels.first_mut() {
            rel.alias = insert
                .table_alias
                .as_ref()
                .map_or(table, |alias| folded(&alias.alias));
        }
        let assigned = self.on_conflict(insert, &mut scope, ctes, context)?;
        let columns = self.returning(insert.returning.as_ref(), &scope, ctes, own)?;
        Ok((
            columns,
            WriteFacts {
                target,
                assigned,
                insert: facts,
            },
        ))
    }

    fn unlisted_target(
        &mut self,
        schema: Option<&str>,
        table: &str,
        own: ContextId,
    ) -> Outcome<()> {
        let mut scope = Scope::new(None);
        let name = match schema {
            Some(schema) => ObjectName::from(vec![schema.into(), table.into()]),
            None => ObjectName::from(vec![table.into()]),
        };
        let factor = TableFactor::Table {
            name,
            alias: None,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        };
        self.factor(&factor, &mut scope, &None, own)
    }

    fn on_conflict<'q>(
        &mut self,
        insert: &'q Insert,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<Vec<(String, Option<crate::sql::statement::ValueSource>)>> {
        let action = match &insert.on {
            None => return Ok(Vec::new()),
            Some(OnInsert::OnConflict(conflict)) => &conflict.action,
            Some(_) => return Err(Trouble::Unsupported("ON DUPLICATE KEY")),
        };
        let OnConflictAction::DoUpdate(update) = action else {
            return Ok(Vec::new());
        };
        let columns = scope.rels.first().and_then(|rel| rel.columns.as_ref());
        let excluded = columns.map(|columns| {
            columns
                .iter()
                .map(|(name, _)| (name.clone(), None))
                .collect()
        });
        scope.rels.push(Rel {
            alias: "excluded".to_owned(),
            schema: None,
            columns: excluded,
            is_table: true,
        });
        let assigned = self.assignments(&update.assignments, scope, ctes, context)?;
        if let Some(condition) = &update.selection {
            self.expr(condition, scope, ctes, context)?;
        }
        scope.rels.pop();
        Ok(assigned)
    }

    #[allow(clippy::too_many_arguments)] // one INSERT in all its parts; a struct would only rename them
    fn inserted<'q>(
        &mut self,
        insert: &'q Insert,
        relation: &Relation,
        listed: &[String],
        target: usize,
        overriding: Overriding,
        own: ContextId,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<InsertFacts> {
        let all: Vec<String> = relation
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let columns = if listed.is_empty() {
            all.clone()
        } else {
            listed.to_vec()
        };
        let keys = self.key_columns(target);
        let key_position = keys
            .first()
            .and_then(|(key, _)| columns.iter().position(|column| column == key));
        let mut facts = InsertFacts {
            rows: Vec::new(),
            selected: None,
            shape: InsertShape::DefaultValues,
            overriding,
            key_position,
            defaulted: Vec::new(),
        };
        let Some(source) = &insert.source else {
            facts.rows = vec![vec![InsertedKey::Missing; keys.len()]];
            facts.defaulted = all;
            return Ok(facts);
        };
        let mut width = columns.len();
        if let Some(rows) = values_of(source) {
            facts.shape = InsertShape::Rows {
                listed: (!listed.is_empty()).then_some(listed.len()),
            };
            for row in rows {
                width = width.min(row.len());
                facts.rows.push(self.row(row, &columns, relation, &keys));
                self.row_exprs(row, &columns, relation, ctes, context, &mut facts.defaulted)?;
            }
            self.row_facts(&facts.rows, &keys, [own, context]);
        } else {
            facts.shape = InsertShape::Query;
            let out = self.query(source, ctes, None, context)?;
            width = out.as_ref().map_or(width, |out| width.min(out.len()));
            let selected = self.selected(source, out, &columns, &keys, context);
            self.row_facts(std::slice::from_ref(&selected), &keys, [own, context]);
            facts.selected = Some(selected);
        }
        let given = columns.iter().take(width);
        let missing = all
            .into_iter()
            .filter(|column| !given.clone().any(|g| g == column));
        facts.defaulted.extend(missing);
        Ok(facts)
    }

    /// Name, node of each key column of the target.
    fn key_columns(&self, target: usize) -> Vec<(String, Node)> {
        let Some(instance) = self.instances.get(target) else {
            return Vec::new();
        };
        match instance.placement {
            Placement::Sharded(index) => self.env.database.tables[index]
                .key
                .iter()
                .cloned()
                .zip(instance.keys.iter().copied())
                .collect(),
            _ => Vec::new(),
        }
    }

    fn row(
        &mut self,
        row: &[Expr],
        columns: &[String],
        _relation: &Relation,
        keys: &[(String, Node)],
    ) -> Vec<InsertedKey> {
        let mut found = Vec::with_capacity(keys.len());
        for (key, node) in keys {
            let at = columns.iter().position(|column| column == key);
            found.push(match at.and_then(|at| row.get(at)) {
                None => InsertedKey::Missing,
                Some(expr) if is_default(expr) => InsertedKey::DefaultWord,
                Some(expr) => self.inserted_value(expr, self.base.type_of(*node)),
            });
        }
        found
    }

    fn inserted_value(&mut self, expr: &Expr, type_oid: u32) -> InsertedKey {
        match self.constant(expr, type_oid) {
            Some(values) => match values.into_iter().next() {
                Some(value) => InsertedKey::Value(value),
                // no value equals it: NULL, or a number that Postgres will refuse
                None if is_null(expr) => InsertedKey::Null,
                None => InsertedKey::Unknown,
            },
            None => InsertedKey::Unknown,
        }
    }

    fn row_exprs<'q>(
        &mut self,
        row: &'q [Expr],
        columns: &[String],
        relation: &Relation,
        ctes: &Ctes<'q>,
        context: ContextId,
        defaulted: &mut Vec<String>,
    ) -> Outcome<()> {
        let scope = Scope::new(None);
        for (at, expr) in row.iter().enumerate() {
            let column = columns.get(at).and_then(|name| relation.column(name));
            if is_default(expr) {
                defaulted.extend(column.map(|column| column.name.clone()));
                continue;
            }
            self.note_if_param(expr, column.map_or(0, |column| column.type_oid));
            self.expr(expr, &scope, ctes, context)?;
        }
        Ok(())
    }

    /// What the inserted rows' keys may be, for those who read them (RETURNING in a CTE).
    fn row_facts(
        &mut self,
        rows: &[Vec<InsertedKey>],
        keys: &[(String, Node)],
        places: [ContextId; 2],
    ) {
        for (at, (_, node)) in keys.iter().enumerate() {
            let mut values = Vec::new();
            for row in rows {
                match row.get(at) {
                    Some(InsertedKey::Value(value)) => values.push(value.clone()),
                    Some(InsertedKey::AnyOf(several)) => values.extend(several.iter().cloned()),
                    _ => return,
                }
            }
            for place in places {
                self.base.constant(place, *node, values.clone());
            }
        }
    }

    /// INSERT … SELECT: a key column is known when its expression is a value or a column that is tied to one.
    fn selected(
        &mut self,
        source: &Query,
        out: Columns,
        columns: &[String],
        keys: &[(String, Node)],
        context: ContextId,
    ) -> Vec<InsertedKey> {
        let closure = self.base.closure(context);
        let mut found = Vec::with_capacity(keys.len());
        for (key, node) in keys {
            let Some(at) = columns.iter().position(|column| column == key) else {
                found.push(InsertedKey::Missing);
                continue;
            };
            let type_oid = self.base.type_of(*node);
            let from_column = out
                .as_ref()
                .and_then(|out| out.get(at))
                .and_then(|column| column.node);
            let by_column = from_column
                .filter(|n| self.base.type_of(*n) == type_oid)
                .and_then(|n| closure.values(n).cloned());
            found.push(match by_column {
                Some(values) => InsertedKey::AnyOf(values),
                None => item_at(source, at).map_or(InsertedKey::Unknown, |expr| {
                    match self.inserted_value(expr, type_oid) {
                        InsertedKey::Null => InsertedKey::Unknown,
                        known => known,
                    }
                }),
            });
        }
        found
    }
}

fn target_node(rel: &Rel, column: &str) -> Option<Node> {
    rel.columns
        .as_ref()?
        .iter()
        .find(|(name, _)| name == column)
        .and_then(|(_, node)| *node)
}

fn parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0
        .iter()
        .map(|part| part.as_ident().map(folded))
        .collect()
}

/// SET a.b assigns field b of column a.
fn first_part(name: &ObjectName) -> Option<String> {
    parts(name)?.into_iter().next()
}

fn last_part(name: &ObjectName) -> Option<String> {
    let mut parts = parts(name)?;
    if parts.len() == 1 { parts.pop() } else { None }
}

/// The rows of a plain VALUES.
fn values_of(query: &Query) -> Option<Vec<&[Expr]>> {
    let plain = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none();
    match query.body.as_ref() {
        SetExpr::Values(values) if plain => Some(values.rows.iter().map(|row| &row[..]).collect()),
        _ => None,
    }
}

/// The expression at a position of a plain SELECT list.
fn item_at(query: &Query, at: usize) -> Option<&Expr> {
    use sqlparser::ast::SelectItem;
    let SetExpr::Select(select) = query.body.as_ref() else {
        return None;
    };
    let plain = |item: &SelectItem| {
        matches!(
            item,
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. }
        )
    };
    if !select.projection.iter().take(at + 1).all(plain) {
        return None;
    }
    match select.projection.get(at)? {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
        _ => None,
    }
}

fn is_default(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

fn is_null(expr: &Expr) -> bool {
    match super::predicate::unwrap(expr) {
        Expr::Value(value) => matches!(value.value, Value::Null),
        Expr::Cast { expr, .. } => is_null(expr),
        _ => false,
    }
}

/// A relation of which nothing is known.
fn no_columns() -> Relation {
    Relation {
        oid: 0,
        kind: RelationKind::Table,
        columns: Vec::new(),
        primary_key: Vec::new(),
        unlogged: false,
        has_row_security: false,
        has_triggers: false,
        parents: Vec::new(),
        depends_on: Vec::new(),
        definition: String::new(),
        volatile: false,
    }
}
