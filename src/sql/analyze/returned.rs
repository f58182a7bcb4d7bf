//! What columns a function in FROM gives: known of PostgreSQL's own that give one value a row, which is named as the
//! function is called. Of all others nothing is said.

use super::facts::Node;
use crate::catalog::Catalog;
use sqlparser::ast::{ArrayElemTypeDef, DataType, Expr, TableAlias};

/// One value a row, whatever the arguments, and no name of its own for it.
const OF_ONE_VALUE: [&str; 8] = [
    "generate_series",
    "generate_subscripts",
    "json_object_keys",
    "jsonb_object_keys",
    "regexp_matches",
    "regexp_split_to_table",
    "string_to_table",
    "jsonb_path_query",
];
/// The same, with this name for it.
const NAMED_VALUE: [&str; 4] = [
    "json_array_elements",
    "json_array_elements_text",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
];
const VALUE: &str = "value";

pub type Columns = Option<Vec<(String, Option<Node>)>>;

/// The columns of `function(…) [WITH ORDINALITY] [alias]` before the alias renames them.
pub fn columns(
    catalog: &Catalog,
    schema: Option<&str>,
    function: &str,
    alias: Option<&TableAlias>,
    numbered: bool,
) -> Columns {
    let own = schema.is_none_or(|schema| schema == "pg_catalog");
    // another one of that name may be meant
    if !own || !catalog.is_systems_own(function) {
        return None;
    }
    let value = if OF_ONE_VALUE.contains(&function) {
        called(function, alias)
    } else if NAMED_VALUE.contains(&function) {
        VALUE.to_owned()
    } else {
        return None;
    };
    Some(with_number(value, numbered))
}

/// The columns of `unnest(…)`: of one array whose type is said and is no row type.
pub fn unnested(arrays: &[Expr], alias: Option<&TableAlias>, numbered: bool) -> Columns {
    let [one] = arrays else { return None };
    is_plain_array(one).then(|| with_number(called("unnest", alias), numbered))
}

fn called(function: &str, alias: Option<&TableAlias>) -> String {
    alias.map_or_else(
        || function.to_owned(),
        |alias| super::scope::folded(&alias.name),
    )
}

fn with_number(value: String, numbered: bool) -> Vec<(String, Option<Node>)> {
    let number = numbered.then(|| "ordinality".to_owned());
    let names = std::iter::once(value).chain(number);
    names.map(|name| (name, None)).collect()
}

fn is_plain_array(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) => is_plain_array(inner),
        Expr::Cast {
            data_type:
                DataType::Array(
                    ArrayElemTypeDef::SquareBracket(of, _) | ArrayElemTypeDef::Qualified(of, _),
                ),
            ..
        } => !matches!(**of, DataType::Custom(..) | DataType::Array(_)),
        Expr::Array(array) => {
            let literal = |e: &Expr| matches!(e, Expr::Value(_));
            !array.elem.is_empty() && array.elem.iter().all(literal)
        }
        _ => false,
    }
}
