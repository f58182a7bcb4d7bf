//! Statement and catalog to Plan. Each statement of a text gets its own plan; what cannot be proven is refused in the
//! plan, so that it fails at its place. It knows no sockets, no clock and no session.

mod asking;
mod combine;
mod data;
mod explain;
mod functions;
mod gather;
mod insert;
mod reference;
mod relations;
mod utility;

use super::pace::Pace;
use super::{Access, Command, Effects, Merge, Plan, PlannedText, Refusal, Routing, TextAnchor};
use crate::catalog::Catalog;
use crate::catalog::lingering::REASON;
use crate::config::Database;
use crate::shard::{ShardId, Unmapped};
use crate::sql::analyze::Env;
use crate::sql::command::{self, Command as Words};
use crate::sql::hint::{Hints, hints};
use crate::sql::lift::{Lifted, shape};
use crate::sql::tokens::{Piece, Token, TokenKind, split, string_value, tokenize};
use crate::wire::sqlstate::SqlState;

/// All that a plan depends on besides the text; what changes here must be in the key of the plan cache.
#[derive(Clone, Copy)]
pub struct PlanContext<'a> {
    pub catalog: &'a Catalog,
    pub database: &'a Database,
    pub search_path: &'a [String],
    pub standard_conforming_strings: bool,
    /// OIDs of `$1`, `$2`, … as declared by Parse, 0 for undeclared
    pub declared: &'a [u32],
    /// `SET pgshunt.shard`
    pub forced_shard: Option<ShardId>,
    /// longer texts are not parsed
    pub parsed_bytes_max: usize,
    /// the client's encoding is the servers': their text compares here as it does there
    pub same_encoding: bool,
}

/// One statement while it is planned.
#[derive(Clone, Copy)]
struct Statement<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    lifted: &'a Lifted,
    context: PlanContext<'a>,
}

/// Plans every statement of a text. `lifted` must be of this very text; without lifting (Parse) it has no slots.
pub fn plan(
    text: &[u8],
    lifted: &Lifted,
    context: PlanContext<'_>,
) -> Result<PlannedText, Refusal> {
    let statements = match tokenize(text, context.standard_conforming_strings) {
        Ok(tokens) => {
            let pieces = split(text, &tokens);
            pieces
                .iter()
                .map(|piece| plan_piece(text, &tokens, piece, lifted, context))
                .collect()
        }
        // Postgres will refuse it too: with one shard it words that itself
        Err(_) if context.single() => vec![context.whole_text(text, lifted)],
        Err(error) => {
            return Err(Refusal::new(
                SqlState::SYNTAX_ERROR,
                error.to_string(),
                None,
            ));
        }
    };
    Ok(PlannedText {
        fingerprint: lifted.fingerprint,
        shape: shape(text, lifted).into(),
        statements,
    })
}

fn plan_piece(
    text: &[u8],
    tokens: &[Token],
    piece: &Piece,
    lifted: &Lifted,
    context: PlanContext<'_>,
) -> Plan {
    let tokens = tokens.get(piece.tokens.clone()).unwrap_or_default();
    let statement = Statement {
        text,
        tokens,
        lifted,
        context,
    };
    let hints = hints(
        text.get(piece.segment.clone()).unwrap_or_default(),
        context.standard_conforming_strings,
    );
    let words = command::classify(text, tokens, context.standard_conforming_strings);
    let mut plan = statement.plan(&words);
    let own = text.get(piece.span.start..piece.span.end).unwrap_or(text);
    plan.effects.asks_channels = asking::channels(own);
    plan.effects.asks_statements = asking::statements(own);
    plan.effects.numbers = asking::numbers(own);
    plan.effects.asks_sequence = asking::sequence(own);
    plan.effects.notifies = asking::notifies(own);
    plan.start = TextAnchor::of(piece.span.start, &lifted.slots);
    plan.end = TextAnchor::of(piece.span.end, &lifted.slots);
    match hints {
        Ok(hints) => statement.apply(&hints, &mut plan),
        Err(error) => {
            plan.refusal = Some(Refusal::new(error.code, error.message, Some(error.hint)));
        }
    }
    plan
}

impl PlanContext<'_> {
    fn single(&self) -> bool {
        self.database.shards.len() == 1
    }

    /// A plan that says nothing yet: a write on the home shard.
    fn blank(&self, command: Command) -> Plan {
        let start = TextAnchor {
            after_slot: None,
            offset: 0,
        };
        Plan {
            start,
            end: start,
            command,
            access: Access::Write,
            routing: if self.single() {
                Routing::Unsharded
            } else {
                Routing::Home
            },
            merge: Merge::Single,
            because: String::new(),
            effects: Effects::default(),
            draw: None,
            refusal: None,
            multi_refusal: None,
            reads: None,
            session: None,
            setting: None,
            clocks: None,
            pace: Pace::default(),
            key_lengths: smallvec::SmallVec::new(),
        }
    }

    fn whole_text(&self, text: &[u8], lifted: &Lifted) -> Plan {
        let mut plan = self.blank(Command::Other);
        plan.end = TextAnchor::of(text.len(), &lifted.slots);
        "the text is malformed".clone_into(&mut plan.because);
        plan
    }

    /// "(s1, s2)"
    fn shard_names(&self) -> String {
        let names: Vec<&str> = self
            .database
            .shards
            .iter()
            .take(8)
            .map(|shard| shard.name.as_str())
            .collect();
        let more = if self.database.shards.len() > 8 {
            ", …"
        } else {
            ""
        };
        format!("({}{more})", names.join(", "))
    }
}

impl<'a> Statement<'a> {
    fn env(&self) -> Env<'a> {
        Env {
            catalog: self.context.catalog,
            database: self.context.database,
            search_path: self.context.search_path,
            text: self.text,
            slots: &self.lifted.slots,
            declared: self.context.declared,
            same_encoding: self.context.same_encoding,
            scs: self.context.standard_conforming_strings,
        }
    }

    /// The same for the statement within (EXPLAIN, DECLARE, COPY (query), PREPARE).
    fn within(&self, tokens: std::ops::Range<usize>) -> Self {
        Self {
            tokens: self.tokens.get(tokens).unwrap_or_default(),
            ..*self
        }
    }

    fn plan(&self, words: &Words) -> Plan {
        let mut plan = match words {
            Words::Query { .. } => self.data(Command::Select),
            Words::Insert => self.data(Command::Insert),
            Words::Update => self.data(Command::Update),
            Words::Delete => self.data(Command::Delete),
            Words::Merge => self.data(Command::Merge),
            other => self.utility(other),
        };
        if self.context.single() {
            self.pass(&mut plan);
        }
        if plan.effects.pins.is_none() && self.lingers(words, &plan) {
            plan.effects.pins = Some(REASON);
        }
        plan
    }

    /// A trigger, a view or whatever else is not written in the statement may call a function that leaves something in the
    /// session; so may what was not understood.
    fn lingers(&self, words: &Words, plan: &Plan) -> bool {
        let lingering = &self.context.catalog.lingering;
        match words {
            Words::Do => return self.block_lingers(),
            _ if plan.routing == Routing::Local || lingering.functions.is_empty() => return false,
            Words::Query { .. } | Words::Execute { .. } => {}
            Words::Insert | Words::Update | Words::Delete | Words::Merge | Words::Copy(_) => {
                if lingering.on_write {
                    return true;
                }
            }
            Words::Ddl(_) | Words::Call | Words::Truncate if lingering.on_write => return true,
            Words::Call | Words::Ddl(_) | Words::Explain { .. } | Words::Maintenance { .. } => {}
            _ => return false,
        }
        lingering.everywhere
            || self.tokens.iter().any(|token| {
                matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent)
                    && std::str::from_utf8(token.bytes(self.text)).is_ok_and(|name| {
                        let name = name.trim_matches('"').to_lowercase();
                        lingering.functions.contains(&name)
                    })
            })
    }

    fn block_lingers(&self) -> bool {
        let strings = self.context.standard_conforming_strings;
        let body = self
            .tokens
            .iter()
            .filter_map(|token| string_value(self.text, token, strings))
            .max_by_key(Vec::len)
            .unwrap_or_default();
        let named = |name: &str| {
            self.tokens
                .iter()
                .any(|token| token.is_word(self.text, name))
        };
        let language = if named("language") && !named("plpgsql") {
            "another"
        } else {
            "plpgsql"
        };
        let lingering = &self.context.catalog.lingering;
        lingering.block_leaves(language, &String::from_utf8_lossy(&body))
    }

    /// With one shard every statement that Postgres accepts works.
    fn pass(&self, plan: &mut Plan) {
        plan.refusal = None;
        plan.multi_refusal = None;
        plan.draw = None;
        if plan.routing != Routing::Local {
            plan.routing = Routing::Unsharded;
        }
        plan.merge = match &plan.merge {
            Merge::EverywhereOutsideTransaction => Merge::EverywhereOutsideTransaction,
            _ => Merge::Single,
        };
    }

    /// A shard that is named, by comment or by SET, is trusted.
    fn apply(&self, hints: &Hints, plan: &mut Plan) {
        plan.reads = hints.reads.or(plan.reads);
        plan.session.clone_from(&hints.session);
        let hinted = match self.hinted(hints) {
            Ok(hinted) => hinted,
            Err(refusal) => {
                plan.refusal = Some(refusal);
                return;
            }
        };
        let Some(shard) = hinted.or(self.context.forced_shard) else {
            return;
        };
        if self.context.single() || !may_be_hinted(plan) {
            return;
        }
        plan.routing = Routing::Hinted(shard);
        plan.merge = Merge::Single;
        plan.refusal = None;
        plan.multi_refusal = None;
        plan.draw = None;
        plan.because = format!(
            "a hint names shard {}",
            self.context
                .database
                .shards
                .get(shard.index())
                .map_or("?", |s| s.name.as_str())
        );
    }

    fn hinted(&self, hints: &Hints) -> Result<Option<ShardId>, Refusal> {
        match (&hints.shard, &hints.key) {
            (Some(name), _) => self.named_shard(name).map(Some),
            (None, Some(key)) => self.named_key(key, hints.keyspace.as_deref()).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn named_shard(&self, name: &str) -> Result<ShardId, Refusal> {
        let mut shards = self.context.database.shards.iter();
        let at = shards.position(|shard| shard.name == name);
        let id = at.and_then(|at| u16::try_from(at).ok()).map(ShardId);
        id.ok_or_else(|| {
            let hint = format!("The shards are {}.", self.context.shard_names());
            bad_hint(format!("there is no shard \"{name}\""), &hint)
        })
    }

    fn named_key(&self, key: &[String], keyspace: Option<&str>) -> Result<ShardId, Refusal> {
        let keyspaces = self.context.database.keyspaces.as_slice();
        let keyspace = match (keyspace, keyspaces) {
            (Some(name), all) => all.iter().find(|keyspace| keyspace.name == name),
            (None, [only]) => Some(only),
            (None, _) => None,
        };
        let Some(keyspace) = keyspace else {
            let hint = "Name one of the shard map: /* pgshunt: key=42 keyspace=… */";
            return Err(bad_hint(
                "the hint's key belongs to no keyspace".to_owned(),
                hint,
            ));
        };
        let (name, columns) = (&keyspace.name, keyspace.types.len());
        if key.len() != columns {
            let message = format!("keyspace \"{name}\" has {columns} key columns");
            return Err(bad_hint(message, "Write key=(first, second)."));
        }
        let pairs = key.iter().zip(&keyspace.types);
        let values = pairs.map(|(text, key_type)| key_type.parse_text(text.as_bytes()));
        let values = values.collect::<Result<Vec<_>, _>>().map_err(|error| {
            let message = format!("the hint's key: {error}");
            bad_hint(message, "Write it as the key's type is written.")
        })?;
        let unmapped = |error: Unmapped| bad_hint(error.to_string(), "Name a key that is mapped.");
        keyspace.locate(&values).map_err(unmapped)
    }
}

fn bad_hint(message: String, hint: &str) -> Refusal {
    let code = SqlState::INVALID_PARAMETER_VALUE;
    Refusal::new(code, message, Some(hint.to_owned()))
}

/// Statements that pgshunt sends to a server by their own content.
fn may_be_hinted(plan: &Plan) -> bool {
    use Command::{
        Begin, Commit, Cursor, Deallocate, DiscardAll, ExecutePrepared, Listen, Prepare,
        ReleaseSavepoint, Reset, Rollback, RollbackToSavepoint, Savepoint, Set, SetLocal,
        SetTransaction, ShowLocal, Unlisten,
    };
    let session = matches!(
        plan.command,
        Begin { .. }
            | Commit { .. }
            | Rollback { .. }
            | Savepoint(_)
            | ReleaseSavepoint(_)
            | RollbackToSavepoint(_)
            | Set { .. }
            | SetTransaction { .. }
            | Reset(_)
            | DiscardAll
            | SetLocal { .. }
            | ShowLocal(_)
            | Deallocate(_)
            | ExecutePrepared(_)
            | Prepare(_)
            | Listen(_)
            | Unlisten(_)
    );
    !(session || plan.command == Cursor && plan.because == utility::HELD)
}
