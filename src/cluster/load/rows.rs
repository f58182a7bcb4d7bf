//! The answers of the catalog queries, one struct for each `.sql` file; a column that was NULL is left out of the JSON.

use serde::Deserialize;

pub type Oid = u32;

#[derive(Default)]
pub struct Rows {
    pub session: Option<SessionRow>,
    pub schemas: Vec<SchemaRow>,
    pub settings: Vec<SettingRow>,
    pub relations: Vec<RelationRow>,
    pub columns: Vec<ColumnsRow>,
    pub views: Vec<ViewRow>,
    pub functions: Vec<FunctionRow>,
    pub operators: Vec<OperatorRow>,
    pub types: Vec<TypeRow>,
    pub constraints: Vec<ConstraintRow>,
    pub indexes: Vec<IndexRow>,
    pub behaviours: Vec<BehaviourRow>,
    pub collations: Vec<CollationRow>,
    pub extensions: Vec<ExtensionRow>,
    pub casts: Vec<CastRow>,
}

#[derive(Deserialize)]
pub struct SessionRow {
    pub search_path: String,
    pub role: String,
    pub server_version: u32,
}

#[derive(Deserialize)]
pub struct SchemaRow {
    pub name: String,
}

#[derive(Deserialize)]
pub struct SettingRow {
    /// "" for all roles
    pub role: String,
    /// `name=value`
    #[serde(default)]
    pub settings: Vec<String>,
}

#[derive(Deserialize)]
pub struct RelationRow {
    pub oid: Oid,
    pub schema: String,
    pub name: String,
    pub kind: String,
    pub unlogged: bool,
    pub row_security: bool,
    pub force_row_security: bool,
    pub system: bool,
    #[serde(default)]
    pub parents: Vec<(String, String)>,
    #[serde(default)]
    pub primary_key: Vec<String>,
}

#[derive(Deserialize)]
pub struct ColumnsRow {
    pub relation: Oid,
    pub columns: Vec<ColumnRow>,
}

#[derive(Deserialize)]
pub struct ColumnRow {
    pub name: String,
    pub type_oid: Oid,
    pub type_modifier: i32,
    pub type_name: String,
    pub not_null: bool,
    pub collation: Option<String>,
    pub deterministic: bool,
    pub by_bytes: bool,
    pub identity: String,
    pub generated: String,
    pub expression: Option<String>,
    #[serde(default)]
    pub calls: Vec<Oid>,
    pub impure: bool,
    pub draws: Option<(String, String)>,
    #[serde(default)]
    pub draws_count: u32,
    pub may_draw: Option<bool>,
}

#[derive(Deserialize)]
pub struct ViewRow {
    pub relation: Oid,
    pub definition: Option<String>,
    pub locks: bool,
    pub checks_domains: bool,
    #[serde(default)]
    pub calls: Vec<Oid>,
    #[serde(default)]
    pub reads: Vec<Oid>,
}

#[derive(Deserialize)]
pub struct FunctionRow {
    pub oid: Oid,
    pub schema: String,
    pub name: String,
    pub volatility: String,
    pub kind: String,
    pub system: bool,
    pub arguments: u16,
    pub returns_set: bool,
    /// an aggregate's support functions, 0 where it has none
    #[serde(default)]
    pub supports: Vec<Oid>,
    pub extension: Option<String>,
    pub signature: Option<String>,
    pub digest: Option<String>,
    pub language: String,
    /// the body, where it is text and the function does not call itself volatile
    pub source: Option<String>,
    /// in a body that is kept parsed, and in the defaults of its arguments
    #[serde(default)]
    pub calls: Vec<Oid>,
    /// types of arguments and result that did not come with the system
    #[serde(default)]
    pub types: Vec<Oid>,
    #[serde(default)]
    pub reads: Vec<Oid>,
    #[serde(default)]
    pub locks: bool,
}

#[derive(Deserialize)]
pub struct OperatorRow {
    pub name: String,
    pub schema: String,
    pub function: Oid,
    pub left: Option<String>,
    pub right: Option<String>,
    pub calls: String,
}

#[derive(Deserialize)]
pub struct TypeRow {
    pub oid: Oid,
    pub schema: String,
    pub name: String,
    pub kind: String,
    /// of a domain; 0 for others
    pub base: Oid,
    pub definition: Option<String>,
    #[serde(default)]
    pub check_calls: Vec<Oid>,
    pub has_default: bool,
    #[serde(default)]
    pub default_calls: Vec<Oid>,
    pub default_impure: bool,
}

#[derive(Deserialize)]
pub struct ConstraintRow {
    pub relation: Oid,
    pub kind: String,
    pub definition: String,
    #[serde(default)]
    pub columns: Vec<String>,
    pub target: Oid,
    #[serde(default)]
    pub target_columns: Vec<String>,
}

#[derive(Deserialize)]
pub struct IndexRow {
    pub relation: Oid,
    pub is_unique: bool,
    pub definition: String,
    #[serde(default)]
    pub columns: Vec<String>,
}

#[derive(Deserialize)]
pub struct BehaviourRow {
    pub relation: Oid,
    pub name: String,
    #[serde(default)]
    pub definition: String,
    /// a trigger or rule that is not disabled
    pub acts: bool,
    #[serde(default)]
    pub calls: Vec<Oid>,
}

#[derive(Deserialize)]
pub struct CollationRow {
    pub schema: String,
    pub name: String,
    pub definition: String,
}

#[derive(Deserialize)]
pub struct ExtensionRow {
    pub name: String,
    pub version: String,
}

#[derive(Deserialize)]
pub struct CastRow {
    pub function: Oid,
    pub target: Oid,
    /// no statement uses it without the name of its type
    pub named: bool,
}

impl FunctionRow {
    /// Its source is not a text that could be read.
    pub fn is_system_language(&self) -> bool {
        matches!(self.language.as_str(), "c" | "internal")
    }
}

impl Rows {
    /// One row of one section; a section nobody knows is passed over.
    pub fn take(&mut self, section: &str, json: &str) -> Result<(), serde_json::Error> {
        match section {
            "session" => self.session = Some(serde_json::from_str(json)?),
            "schema" => self.schemas.push(serde_json::from_str(json)?),
            "setting" => self.settings.push(serde_json::from_str(json)?),
            "relation" => self.relations.push(serde_json::from_str(json)?),
            "columns" => self.columns.push(serde_json::from_str(json)?),
            "view" => self.views.push(serde_json::from_str(json)?),
            "function" => self.functions.push(serde_json::from_str(json)?),
            "operator" => self.operators.push(serde_json::from_str(json)?),
            "type" => self.types.push(serde_json::from_str(json)?),
            "constraint" => self.constraints.push(serde_json::from_str(json)?),
            "index" => self.indexes.push(serde_json::from_str(json)?),
            "behaviour" => self.behaviours.push(serde_json::from_str(json)?),
            "collation" => self.collations.push(serde_json::from_str(json)?),
            "cast" => self.casts.push(serde_json::from_str(json)?),
            "extension" => self.extensions.push(serde_json::from_str(json)?),
            _ => {}
        }
        Ok(())
    }
}
