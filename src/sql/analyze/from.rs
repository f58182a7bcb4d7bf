//! FROM: relations, joins and the contexts they stand in. The nullable side of an outer join is a context of its own: its
//! ON narrows that side only (hazard 23).

use super::expr::is_syntax;
use super::facts::Collation;
use super::query::{CteDef, Ctes};
use super::returned;
use super::scope::{Rel, Resolved, Scope, folded, schema_and_name};
use super::{
    Analyzer, ContextId, Instance, Node, Outcome, Trouble, is_reference, reaches_sharded,
    sharded_index,
};
use crate::catalog::{QualifiedName, Relation, RelationKind};
use crate::sql::parse::with_parsed;
use crate::sql::statement::Placement;
use crate::sql::tokens::{TokenKind, tokenize};
use sqlparser::ast::{
    Join, JoinConstraint, JoinOperator, ObjectName, Statement, TableAlias, TableFactor,
    TableWithJoins,
};

/// A function in FROM.
struct Call<'q> {
    name: &'q ObjectName,
    args: &'q [sqlparser::ast::FunctionArg],
    alias: Option<&'q TableAlias>,
    /// WITH ORDINALITY
    numbered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
}

/// Contexts of one join: of what stands left of it, of its own relation, of its condition.
struct Place {
    right: ContextId,
    on: ContextId,
    kind: Kind,
}

impl Analyzer<'_> {
    pub(super) fn from<'q>(
        &mut self,
        items: &'q [TableWithJoins],
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        items
            .iter()
            .try_for_each(|item| self.join_tree(item, scope, ctes, context))
    }

    pub(super) fn join_tree<'q>(
        &mut self,
        tree: &'q TableWithJoins,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        let (first, places) = self.places(&tree.joins, context)?;
        let start = scope.rels.len();
        self.factor(&tree.relation, scope, ctes, first)?;
        for (join, place) in tree.joins.iter().zip(places) {
            let middle = scope.rels.len();
            self.factor(&join.relation, scope, ctes, place.right)?;
            let constraint = constraint(&join.join_operator).unwrap_or(&JoinConstraint::None);
            match constraint {
                JoinConstraint::On(condition) => self.filter(condition, scope, ctes, place.on)?,
                JoinConstraint::Using(columns) => {
                    self.using(columns, scope, start, middle, &place)?;
                }
                JoinConstraint::Natural => self.natural(scope, start, middle, &place),
                JoinConstraint::None => {}
            }
        }
        Ok(())
    }

    /// Contexts from the last join, which is the outermost, to the first.
    fn places(&mut self, joins: &[Join], context: ContextId) -> Outcome<(ContextId, Vec<Place>)> {
        let mut left = context;
        let mut places = Vec::with_capacity(joins.len());
        for join in joins.iter().rev() {
            if join.global {
                return Err(Trouble::Unsupported("GLOBAL JOIN"));
            }
            let kind = kind(&join.join_operator)?;
            let place = match kind {
                Kind::Inner => Place {
                    right: left,
                    on: left,
                    kind,
                },
                Kind::Left => {
                    let nullable = self.base.child(left);
                    Place {
                        right: nullable,
                        on: nullable,
                        kind,
                    }
                }
                Kind::Right => {
                    let nullable = self.base.child(left);
                    let place = Place {
                        right: left,
                        on: nullable,
                        kind,
                    };
                    left = nullable;
                    place
                }
                Kind::Full => {
                    let place = Place {
                        right: self.base.child(left),
                        on: self.base.child(left),
                        kind,
                    };
                    left = self.base.child(left);
                    place
                }
            };
            places.push(place);
        }
        places.reverse();
        Ok((left, places))
    }

    fn using(
        &mut self,
        columns: &[ObjectName],
        scope: &mut Scope<'_>,
        start: usize,
        middle: usize,
        place: &Place,
    ) -> Outcome<()> {
        for column in columns {
            let Some((None, name)) = schema_and_name(column) else {
                return Err(Trouble::Unsupported("USING"));
            };
            self.merge(&name, scope, start, middle, place);
        }
        Ok(())
    }

    fn natural(&mut self, scope: &mut Scope<'_>, start: usize, middle: usize, place: &Place) {
        let names = |rels: &[Rel]| -> Option<Vec<String>> {
            let mut names = Vec::new();
            for rel in rels {
                names.extend(rel.columns.as_ref()?.iter().map(|(name, _)| name.clone()));
            }
            Some(names)
        };
        let (left, right) = (
            names(&scope.rels[start..middle]),
            names(&scope.rels[middle..]),
        );
        match (left, right) {
            (Some(left), Some(right)) => {
                for name in right.iter().filter(|name| left.contains(name)) {
                    self.merge(name, scope, start, middle, place);
                }
            }
            _ => scope.rels[start..]
                .iter_mut()
                .for_each(|rel| rel.columns = None),
        }
    }

    fn merge(
        &mut self,
        name: &str,
        scope: &mut Scope<'_>,
        start: usize,
        middle: usize,
        place: &Place,
    ) {
        let left = match scope.merged.iter().find(|(merged, _)| merged == name) {
            Some((_, node)) => *node,
            None => only(&scope.rels[start..middle], name),
        };
        let right = only(&scope.rels[middle..], name);
        if let (Some(left), Some(right)) = (left, right) {
            self.base.equal(place.on, left, right);
        }
        let same = |(left, right)| self.base.type_of(left) == self.base.type_of(right);
        if !left.zip(right).is_some_and(same) {
            scope.mixed.push(name.to_owned());
        }
        let means = match place.kind {
            Kind::Inner | Kind::Left => left,
            Kind::Right => right,
            Kind::Full => None,
        };
        scope.merged.retain(|(merged, _)| merged != name);
        scope.merged.push((name.to_owned(), means));
    }

    pub(super) fn factor<'q>(
        &mut self,
        factor: &'q TableFactor,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        match factor {
            TableFactor::Table { .. } => self.plain_item(factor, scope, ctes, context),
            TableFactor::Derived {
                lateral,
                subquery,
                alias,
                sample: None,
            } => {
                let columns = {
                    let outer = if *lateral {
                        Some(&*scope)
                    } else {
                        scope.parent
                    };
                    let walk = |this: &mut Self| this.joined_query(subquery, ctes, outer, context);
                    if *lateral {
                        self.run_for(true, walk)?
                    } else {
                        walk(self)?
                    }
                };
                let columns =
                    columns.map(|columns| columns.into_iter().map(|c| (c.name, c.node)).collect());
                scope.rels.push(rel(alias.as_ref(), None, columns, false));
                Ok(())
            }
            TableFactor::Function {
                name, args, alias, ..
            } => {
                let call = Call {
                    name,
                    args,
                    alias: alias.as_ref(),
                    numbered: false,
                };
                self.table_function(&call, scope, ctes, context)
            }
            TableFactor::TableFunction { expr, alias } => {
                self.expr(expr, scope, ctes, context)?;
                scope.rels.push(rel(alias.as_ref(), None, None, false));
                Ok(())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_ordinality,
                ..
            } => {
                self.exprs(array_exprs, scope, ctes, context)?;
                let alias = alias.as_ref();
                let columns = returned::unnested(array_exprs, alias, *with_ordinality);
                scope.rels.push(rel(alias, Some("unnest"), columns, false));
                Ok(())
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => self.nested(table_with_joins, alias.as_ref(), scope, ctes, context),
            _ => Err(Trouble::Unsupported("an item of FROM")),
        }
    }

    /// A name, with arguments or not.
    fn plain_item<'q>(
        &mut self,
        factor: &'q TableFactor,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version: None,
            partitions,
            json_path: None,
            sample,
            index_hints,
            with_ordinality,
            ..
        } = factor
        else {
            return Err(Trouble::Unsupported("an item of FROM"));
        };
        if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
            return Err(Trouble::Unsupported("an item of FROM"));
        }
        if sample.is_some() {
            self.limited = true;
            let reason = || "TABLESAMPLE".to_owned();
            self.not_concatenable.get_or_insert_with(reason);
            self.notes.obstacle(reason);
        }
        let alias = alias.as_ref();
        match args {
            Some(args) => {
                let call = Call {
                    name,
                    args: &args.args,
                    alias,
                    numbered: *with_ordinality,
                };
                self.table_function(&call, scope, ctes, context)
            }
            None => self.named(name, alias, scope, ctes, context),
        }
    }

    fn nested<'q>(
        &mut self,
        tree: &'q TableWithJoins,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        if alias.is_none() {
            return self.join_tree(tree, scope, ctes, context);
        }
        let mut inside = Scope::new(scope.parent);
        self.join_tree(tree, &mut inside, ctes, context)?;
        scope.rels.push(rel(alias, None, None, false));
        Ok(())
    }

    fn table_function<'q>(
        &mut self,
        call: &Call<'q>,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        let Call { args, alias, .. } = *call;
        let Some((schema, name)) = schema_and_name(call.name) else {
            return Err(Trouble::Unsupported("a function's name"));
        };
        if !is_syntax(&name) {
            self.calls(schema.as_deref(), &name);
            self.key_argument(&name, args);
        }
        self.arguments(args, scope, ctes, context)?;
        // AS x(a some_domain)
        let columns = alias.into_iter().flat_map(|alias| &alias.columns);
        for data_type in columns.filter_map(|column| column.data_type.as_ref()) {
            self.cast_to(data_type);
        }
        let catalog = self.env.catalog;
        let columns = returned::columns(catalog, schema.as_deref(), &name, alias, call.numbered);
        scope.rels.push(rel(alias, Some(&name), columns, false));
        Ok(())
    }

    fn named(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        ctes: &Ctes<'_>,
        context: ContextId,
    ) -> Outcome<()> {
        let Some((schema, name)) = schema_and_name(name) else {
            return Err(Trouble::Unsupported("a relation's name"));
        };
        self.sees(&name);
        if schema.is_none()
            && let Some(cte) = ctes.as_ref().and_then(|ctes| ctes.find(&name))
        {
            cte.uses.set(cte.uses.get() + 1);
            let columns = match &cte.def {
                CteDef::Forward => return Err(Trouble::Unsupported("a reference to a later CTE")),
                CteDef::Inline { query, names } => {
                    let columns = self.joined_query(query, &cte.before, None, context)?;
                    columns.map(|columns| {
                        renamed(
                            columns.into_iter().map(|c| (c.name, c.node)).collect(),
                            names,
                        )
                    })
                }
                CteDef::Bound(bound) => bound.as_ref().map(|bound| {
                    bound
                        .iter()
                        .map(|column| self.bound(column, context))
                        .collect()
                }),
            };
            scope.rels.push(rel(alias, Some(&name), columns, false));
            return Ok(());
        }
        self.relation(schema.as_deref(), &name, alias, scope, context)
    }

    fn bound(
        &mut self,
        column: &super::query::BoundColumn,
        context: ContextId,
    ) -> (String, Option<Node>) {
        let node = self.base.node(column.type_oid);
        if let Some(values) = &column.values {
            self.base.constant(context, node, values.clone());
        }
        (column.name.clone(), Some(node))
    }

    fn relation(
        &mut self,
        schema: Option<&str>,
        name: &str,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        context: ContextId,
    ) -> Outcome<()> {
        let catalog = self.env.catalog;
        let Some((qualified, relation)) = catalog.resolve(self.env.search_path, schema, name)
        else {
            let placement = self.unlisted(schema, name)?;
            let table = QualifiedName {
                schema: schema.unwrap_or_default().to_owned(),
                name: name.to_owned(),
            };
            self.push_instance(table, placement, context, Vec::new(), Vec::new());
            scope.rels.push(rel(alias, Some(name), None, true));
            return Ok(());
        };
        if matches!(relation.kind, RelationKind::View) && self.looks_through(&qualified, relation) {
            return self.view(&qualified, relation, alias, scope, context);
        }
        self.base_table(qualified, relation, alias, scope, context)
    }

    /// A name the catalog does not have: the home shard will say so, unless it is one of the map's tables.
    fn unlisted(&self, schema: Option<&str>, name: &str) -> Outcome<Placement> {
        let in_path = |s: &str| {
            schema.map_or_else(
                || self.env.search_path.iter().any(|p| p == s),
                |schema| schema == s,
            )
        };
        let sharded = self
            .env
            .database
            .tables
            .iter()
            .any(|t| t.name == name && in_path(&t.schema));
        let reference = self
            .env
            .database
            .reference_tables
            .iter()
            .any(|(s, n)| n == name && in_path(s));
        if sharded || reference {
            return Err(Trouble::Refused {
                message: format!(
                    "table \"{name}\" is in the shard map, but not in the shards' catalog as last loaded"
                ),
                hint: "Create it through pgshunt, or have the catalog loaded again with RELOAD on the admin console.",
            });
        }
        Ok(Placement::Home)
    }

    pub(super) fn base_table(
        &mut self,
        qualified: QualifiedName,
        relation: &Relation,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        context: ContextId,
    ) -> Outcome<()> {
        let nodes: Vec<(String, Option<Node>)> = relation
            .columns
            .iter()
            .map(|column| {
                let collation = Collation {
                    by_bytes: column.collates_by_bytes,
                    deterministic: column.collation_deterministic,
                };
                let node = self.base.collated(column.type_oid, collation);
                (column.name.clone(), Some(node))
            })
            .collect();
        let index = sharded_index(&self.env, &qualified);
        let keys = match index {
            Some(index) => self.key_nodes(index, &qualified, &nodes)?,
            None => Vec::new(),
        };
        let placement = match index {
            Some(index) => Placement::Sharded(index),
            None if self.is_shared(&qualified, relation) => Placement::Reference,
            None => Placement::Home,
        };
        if relation.volatile {
            self.opaque_expression = true;
        }
        self.notes.whole_rows |= alias.is_some_and(|alias| !alias.columns.is_empty());
        let unlogged = |base: &QualifiedName| {
            self.env
                .catalog
                .relations
                .get(base)
                .is_some_and(|base| base.unlogged)
        };
        let primary_only = relation.unlogged
            || relation.depends_on.iter().any(unlogged)
            || matches!(
                relation.kind,
                RelationKind::Sequence | RelationKind::Foreign | RelationKind::Other
            );
        let name = qualified.name.clone();
        let schema = qualified.schema.clone();
        self.push_instance(qualified, placement, context, keys, nodes.clone());
        if let Some(instance) = self.instances.last_mut() {
            instance.primary_only = primary_only;
            instance.row_security = relation.has_row_security;
        }
        let mut rel = rel(alias, Some(&name), Some(nodes), true);
        rel.schema = alias.is_none().then_some(schema);
        scope.rels.push(rel);
        Ok(())
    }

    /// Reference tables, and views over nothing else.
    fn is_shared(&self, name: &QualifiedName, relation: &Relation) -> bool {
        if is_reference(&self.env, name) {
            return true;
        }
        let known = |base: &&QualifiedName| self.env.catalog.relations.contains_key(*base);
        let bases: Vec<&QualifiedName> = relation.depends_on.iter().filter(known).collect();
        relation.kind == RelationKind::View
            && !bases.is_empty()
            && bases.iter().all(|base| is_reference(&self.env, base))
    }

    fn key_nodes(
        &self,
        index: usize,
        name: &QualifiedName,
        nodes: &[(String, Option<Node>)],
    ) -> Outcome<Vec<Node>> {
        let keys = self.env.database.tables[index].key.iter();
        let node = |key: &String| {
            nodes
                .iter()
                .find(|(column, _)| column == key)
                .and_then(|(_, node)| *node)
        };
        keys.map(node)
            .collect::<Option<Vec<Node>>>()
            .ok_or_else(|| Trouble::Refused {
                message: format!(
                    "table \"{}\" lacks a key column of the shard map",
                    name.name
                ),
                hint: "Run pgshunt check: it compares the map with the shards.",
            })
    }

    fn push_instance(
        &mut self,
        table: QualifiedName,
        placement: Placement,
        context: ContextId,
        keys: Vec<Node>,
        columns: Vec<(String, Option<Node>)>,
    ) {
        let anchors = self.inner == 0 && context == self.top;
        self.instances.push(Instance {
            table,
            placement,
            context,
            keys,
            columns,
            anchors,
            primary_only: false,
            row_security: false,
        });
    }

    /// Is the view's definition to be analysed in its place?
    fn looks_through(&mut self, name: &QualifiedName, relation: &Relation) -> bool {
        for base in &relation.depends_on {
            if self.env.catalog.functions.contains_key(&base.name)
                && !self.env.catalog.relations.contains_key(base)
            {
                self.calls(Some(&base.schema), &base.name);
            }
        }
        self.env.database.shards.len() > 1 && reaches_sharded(&self.env, name, relation)
    }

    fn view(
        &mut self,
        name: &QualifiedName,
        relation: &Relation,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        context: ContextId,
    ) -> Outcome<()> {
        const UNCLEAR: Trouble = Trouble::Unsupported("a view over sharded tables");
        let (definition, outside) = match self.env.catalog.relations.get(name) {
            Some(view) if self.in_view < 16 => (view.definition.as_bytes(), self.env),
            _ => return Err(UNCLEAR),
        };
        let mut tokens = tokenize(definition, true).map_err(|_| UNCLEAR)?;
        tokens.retain(|token| token.kind != TokenKind::Semicolon);
        if relation.volatile {
            self.opaque_expression = true;
            self.notes
                .obstacle(|| format!("\"{}\", which may write when it is read,", name.name));
        }
        self.notes.read(definition, &tokens);
        if self.in_view == 0 {
            self.notes.views.push(name.clone());
        }
        self.env = super::Env {
            text: definition,
            slots: &[],
            declared: &[],
            scs: true,
            ..outside
        };
        self.in_view += 1;
        let columns = with_parsed(definition, &tokens, true, |parsed| {
            match &parsed.statement {
                Statement::Query(query) => self.joined_query(query, &None, None, context),
                _ => Err(UNCLEAR),
            }
        });
        self.in_view -= 1;
        self.env = outside;
        let columns = columns.map_err(|_| UNCLEAR)??;
        let names: Vec<String> = relation
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect();
        let columns = columns.map(|columns| {
            renamed(
                columns.into_iter().map(|c| (c.name, c.node)).collect(),
                &names,
            )
        });
        scope
            .rels
            .push(rel(alias, Some(&name.name), columns, false));
        Ok(())
    }
}

fn kind(operator: &JoinOperator) -> Outcome<Kind> {
    match operator {
        JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::CrossJoin(_) => {
            Ok(Kind::Inner)
        }
        JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => Ok(Kind::Left),
        JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Ok(Kind::Right),
        JoinOperator::FullOuter(_) => Ok(Kind::Full),
        _ => Err(Trouble::Unsupported("a kind of join")),
    }
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    use JoinOperator::{CrossJoin, FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter};
    match operator {
        Join(c) | Inner(c) | CrossJoin(c) | Left(c) | LeftOuter(c) | Right(c) | RightOuter(c)
        | FullOuter(c) => Some(c),
        _ => None,
    }
}

/// The node of a column that exactly one of these relations has.
fn only(rels: &[Rel], name: &str) -> Option<Node> {
    let mut scope = Scope::new(None);
    for rel in rels {
        scope.rels.push(Rel {
            alias: String::new(),
            schema: None,
            columns: rel.columns.clone(),
            is_table: rel.is_table,
        });
    }
    match scope.bare(name) {
        Resolved::Node(node) => Some(node),
        _ => None,
    }
}

fn rel(
    alias: Option<&TableAlias>,
    name: Option<&str>,
    columns: Option<Vec<(String, Option<Node>)>>,
    is_table: bool,
) -> Rel {
    let known = alias.map_or_else(
        || name.unwrap_or_default().to_owned(),
        |alias| folded(&alias.name),
    );
    let names: Vec<String> = alias
        .map(|alias| {
            alias
                .columns
                .iter()
                .map(|column| folded(&column.name))
                .collect()
        })
        .unwrap_or_default();
    Rel {
        alias: known,
        schema: None,
        columns: columns.map(|columns| renamed(columns, &names)),
        is_table,
    }
}

/// `AS t(a, b)`: the first columns get other names.
pub(super) fn renamed(
    mut columns: Vec<(String, Option<Node>)>,
    names: &[String],
) -> Vec<(String, Option<Node>)> {
    for (column, name) in columns.iter_mut().zip(names) {
        column.0.clone_from(name);
    }
    columns
}
