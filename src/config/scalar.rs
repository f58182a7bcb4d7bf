//! The few values of the shard map that may be written in more than one form: a name or a list of names, a password
//! or where to find it. They refuse what YAML would quietly reinterpret (an unquoted `0123` is a number, `no` a boolean).

use super::place::At;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// `key: id` or `key: [tenant, id]`.
#[derive(Clone, Debug, Default)]
pub struct OneOrMany(pub Vec<At<String>>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name or a list of names")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![At::default_of(text.to_owned())]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<OneOrMany, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = seq.next_element()? {
            names.push(name);
        }
        Ok(OneOrMany(names))
    }
}

impl JsonSchema for OneOrMany {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "OneOrMany".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1 }
            ]
        })
    }
}

/// A password, or where it is kept. `Debug` never shows it.
#[derive(Clone)]
pub enum PasswordFile {
    Text(String),
    /// the name of an environment variable
    Env(String),
    /// a file whose first line is the password
    File(String),
}

impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("(hidden)"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {path}"),
        }
    }
}

impl<'de> Deserialize<'de> for PasswordFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordVisitor)
    }
}

struct PasswordVisitor;

const PASSWORD_FORMS: &[&str] = &["env", "file"];

impl<'de> Visitor<'de> for PasswordVisitor {
    type Value = PasswordFile;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password in quotes, { env: NAME } or { file: PATH }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<PasswordFile, E> {
        Ok(PasswordFile::Text(text.to_owned()))
    }

    // An unquoted number or boolean has lost its spelling here; the error must not repeat it either.
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<PasswordFile, E> {
        Err(E::custom(
            "found a boolean; expected the password in quotes",
        ))
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<PasswordFile, E> {
        Err(unquoted_number())
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<PasswordFile, E> {
        Err(unquoted_number())
    }
    fn visit_i128<E: de::Error>(self, _: i128) -> Result<PasswordFile, E> {
        Err(unquoted_number())
    }
    fn visit_u128<E: de::Error>(self, _: u128) -> Result<PasswordFile, E> {
        Err(unquoted_number())
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<PasswordFile, E> {
        Err(unquoted_number())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PasswordFile, A::Error> {
        let Some(form) = map.next_key::<String>()? else {
            return Err(de::Error::custom(
                "found an empty mapping; expected { env: NAME } or { file: PATH }",
            ));
        };
        let password = match form.as_str() {
            "env" => PasswordFile::Env(map.next_value()?),
            "file" => PasswordFile::File(map.next_value()?),
            other => return Err(de::Error::unknown_field(other, PASSWORD_FORMS)),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(de::Error::custom(
                "found several fields; expected { env: NAME } or { file: PATH }",
            ));
        }
        Ok(password)
    }
}

fn unquoted_number<E: de::Error>() -> E {
    E::custom("found a number; expected the password in quotes")
}

impl JsonSchema for PasswordFile {
    fn schema_name() -> Cow<'static, str> {
        "Password".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A plain password in quotes, a SCRAM-SHA-256 verifier, or where to find either.",
            "anyOf": [
                { "type": "string" },
                one_field("env", "name of an environment variable"),
                one_field("file", "path of a file whose first line is the password")
            ]
        })
    }
}

fn one_field(name: &str, description: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "object",
        "properties": { name: { "type": "string", "description": description } },
        "required": [name],
        "additionalProperties": false
    })
}
