//! The servers themselves: reachable, in the role the map gives them, with the rights and settings pgshunt counts on, and
//! alike where unlike servers would answer otherwise.

use crate::cluster::finding::{Finding, PRIMARY_DOWN, Subject};
use crate::cluster::inspect::{Member, ServerFacts};
use crate::cluster::topology::ServerId;
use crate::config::Database;
use crate::shard::{KeyType, ShardId};
use std::collections::BTreeMap;

/// The catalog queries are written for this version and later.
const VERSION_MIN: u32 = 120_000;
/// A standby's own: it cannot write whatever this says.
const NOT_FOR_REPLICAS: &str = "default_transaction_read_only";

pub fn check(database: &Database, members: &[Member]) -> Vec<Finding> {
    let servers = Servers { database, members };
    let mut findings = Vec::new();
    for member in members {
        match (&member.state, member.member) {
            (_, ServerId::SCRATCH) => findings.extend(servers.scratch_server(member)),
            (Err(reason), 0) => findings.push(servers.primary_down(member, reason)),
            (Err(reason), _) => findings.push(servers.replica_down(member, reason)),
            (Ok(state), 0) => findings.extend(servers.primary(member, &state.facts)),
            (Ok(state), _) => findings.extend(servers.replica(member, &state.facts)),
        }
    }
    findings
}

struct Servers<'a> {
    database: &'a Database,
    members: &'a [Member],
}

impl Servers<'_> {
    fn error(&self, code: &'static str, member: &Member) -> Finding {
        Finding::error(code, place(member)).on(self.name(member.shard))
    }

    fn warning(&self, code: &'static str, member: &Member) -> Finding {
        Finding::warning(code, place(member)).on(self.name(member.shard))
    }

    fn name(&self, shard: ShardId) -> &str {
        self.database
            .shards
            .get(shard.index())
            .map_or("?", |shard| shard.name.as_str())
    }

    fn primary_facts(&self, shard: ShardId) -> Option<&ServerFacts> {
        let primary = self
            .members
            .iter()
            .find(|member| member.shard == shard && member.member == 0);
        primary
            .and_then(|member| member.state.as_ref().ok())
            .map(|state| &state.facts)
    }

    fn primary_down(&self, member: &Member, reason: &str) -> Finding {
        self.error(PRIMARY_DOWN, member)
            .found(format!("a primary that cannot be asked: {reason}"))
            .expected("a server that user and password of the map's `control` may log in to")
            .degrades(
                "statements of this shard wait for it, then fail; the other shards are served",
            )
    }

    fn replica_down(&self, member: &Member, reason: &str) -> Finding {
        self.warning("replica_down", member)
            .found(format!("a replica that cannot be asked: {reason}"))
            .degrades("its share of the reads goes to the others until it answers")
    }

    fn primary(&self, member: &Member, facts: &ServerFacts) -> Vec<Finding> {
        let mut findings = self.any_server(member, facts);
        if facts.in_recovery {
            findings.push(
                self.error("primary_in_recovery", member)
                    .found("a server in recovery")
                    .expected("a primary")
                    .degrades("every write of this shard fails; name the server that was promoted"),
            );
        }
        findings.extend(self.twin(member, facts));
        findings.extend(self.two_phase(member, facts));
        findings.extend(self.synchronous(member, facts));
        if let Some(home) = self
            .primary_facts(self.database.home)
            .filter(|home| *home != facts)
        {
            findings.extend(self.unlike(member, facts, home, "the home shard"));
        }
        findings.extend(self.encoding(member, facts));
        findings.extend(self.scratch(member, facts));
        findings
    }

    /// Scratch databases are made on the home shard's primary.
    fn scratch(&self, member: &Member, facts: &ServerFacts) -> Option<Finding> {
        let needed = member.shard == self.database.home
            && self.database.shards.len() > 1
            && self.database.scratch_server.is_none();
        (needed && !facts.may_create_databases).then(|| {
            self.warning("no_createdb", member)
                .found("a control user who may not create databases")
                .expected(format!(
                    "ALTER ROLE {} CREATEDB",
                    self.database.control_user
                ))
                .degrades("statements that need rows of several shards together are refused")
        })
    }

    /// A server for nothing but scratch databases: statements may run there that were written for the shards' version.
    fn scratch_server(&self, member: &Member) -> Vec<Finding> {
        let refused = "statements that need rows of several shards together are refused";
        let finding = |code| Finding::warning(code, place(member)).degrades(refused);
        let facts = match &member.state {
            Ok(state) => &state.facts,
            Err(reason) => {
                return vec![
                    finding("scratch_server_down")
                        .found(format!("a scratch server that cannot be asked: {reason}"))
                        .expected(
                            "a server that user and password of the map's `control` may log in to",
                        ),
                ];
            }
        };
        let mut findings = Vec::new();
        if facts.in_recovery {
            let found = finding("scratch_server_in_recovery").found("a server in recovery");
            findings.push(found.expected("a server that databases can be made on"));
        }
        if !facts.may_create_databases {
            let found = finding("no_createdb").found("a control user who may not create databases");
            let user = &self.database.control_user;
            findings.push(found.expected(format!("ALTER ROLE {user} CREATEDB")));
        }
        let shards = (0..self.database.shards.len()).filter_map(|n| u16::try_from(n).ok());
        let primaries = shards.filter_map(|n| self.primary_facts(ShardId(n)));
        if let Some(newest) = primaries.max_by_key(|facts| facts.version)
            && facts.version / 10_000 < newest.version / 10_000
        {
            findings.push(
                Finding::error("scratch_server_older", place(member))
                    .found(format!("PostgreSQL {}", facts.version_text))
                    .expected(format!(
                        "{} or later, as on the shards",
                        newest.version_text
                    ))
                    .degrades("statements may mean something else there"),
            );
        }
        findings
    }

    fn replica(&self, member: &Member, facts: &ServerFacts) -> Vec<Finding> {
        let mut findings = self.any_server(member, facts);
        let not_read = "the replica is not read";
        if !facts.in_recovery {
            let finding = self.warning("replica_not_standby", member);
            findings.push(
                finding
                    .found("a server that is not in recovery")
                    .expected("a streaming replica")
                    .degrades(not_read),
            );
        } else if facts.replay_hidden {
            let finding = self.warning("replay_hidden", member);
            findings.push(
                finding
                    .found("no replay position")
                    .expected("pg_last_wal_replay_lsn() to answer")
                    .degrades(format!("it cannot be proven what it shows: {not_read}")),
            );
        } else if !facts.receives_wal {
            let finding = self.warning("replica_not_streaming", member);
            findings.push(
                finding
                    .found("no WAL receiver")
                    .degrades("it falls behind and its reads go to the primary"),
            );
        }
        if let Some(primary) = self.primary_facts(member.shard) {
            match self.stranger(member, facts, primary) {
                Some(stranger) => findings.push(stranger),
                None => findings.extend(self.unlike(member, facts, primary, "its primary")),
            }
        }
        findings.extend(self.listed_twice(member, facts));
        findings
    }

    fn stranger(
        &self,
        member: &Member,
        facts: &ServerFacts,
        primary: &ServerFacts,
    ) -> Option<Finding> {
        let (wanted, there) = (
            primary.system_identifier.as_ref()?,
            facts.system_identifier.as_ref()?,
        );
        (wanted != there).then(|| {
            self.error("replica_of_another", member)
                .found(format!("system identifier {there}"))
                .expected(format!("{wanted}, the primary's"))
                .degrades("it holds another cluster's data")
        })
    }

    fn any_server(&self, member: &Member, facts: &ServerFacts) -> Vec<Finding> {
        let mut findings = Vec::new();
        if facts.version < VERSION_MIN {
            let finding = self
                .error("version", member)
                .found(format!("PostgreSQL {}", facts.version_text));
            findings.push(
                finding
                    .expected("12 or later")
                    .degrades("its catalog cannot be read"),
            );
        }
        if !facts.is_superuser && !facts.is_monitor {
            let finding = self.warning("not_monitor", member);
            findings.push(
                finding
                    .found("a control user without pg_monitor")
                    .expected(format!("GRANT pg_monitor TO {}", self.database.control_user))
                    .degrades("a replica's timeline is hidden: only reads at level eventual are served by replicas, all others by the primary"),
            );
        }
        if facts.system_identifier.is_none() {
            findings.push(
                self.warning("identity_hidden", member)
                    .found("a control user who may not call pg_control_system()")
                    .expected("EXECUTE on it")
                    .degrades(
                        "a server of another cluster among the replicas would not be noticed",
                    ),
            );
        }
        if !facts.may_read_wal {
            let finding = self.warning("wal_hidden", member);
            findings.push(
                finding
                    .found("a control user who may not call pg_current_wal_insert_lsn() or pg_last_wal_replay_lsn()")
                    .expected("EXECUTE on both")
                    .degrades("what replicas show cannot be proven: all reads go to the primary"),
            );
        }
        let free = facts
            .max_connections
            .saturating_sub(facts.reserved_connections);
        if self.database.pool.size > usize::try_from(free).unwrap_or(usize::MAX) {
            let finding = self.warning("max_connections", member);
            findings.push(
                finding
                    .found(format!("max_connections = {}", facts.max_connections))
                    .expected(format!(
                        "more than the pool's size of {}",
                        self.database.pool.size
                    ))
                    .degrades("the server turns connections away under load (53300)"),
            );
        }
        findings
    }

    /// Two shards on one server and database would be one shard that is counted twice.
    fn twin(&self, member: &Member, facts: &ServerFacts) -> Option<Finding> {
        let twin = self.members.iter().find(|other| {
            let same = other
                .state
                .as_ref()
                .is_ok_and(|state| same_cluster(&state.facts, facts));
            other.member == 0 && other.shard < member.shard && same
        })?;
        let finding = self.error("same_server", member);
        Some(
            finding
                .found(format!(
                    "system identifier {}, database {}: the same as shard {}",
                    facts.system_identifier.as_deref().unwrap_or("hidden"),
                    self.database.server_database,
                    self.name(twin.shard)
                ))
                .expected("a cluster of its own (initdb) for each shard")
                .degrades("rows would be counted twice"),
        )
    }

    fn listed_twice(&self, member: &Member, facts: &ServerFacts) -> Option<Finding> {
        let twin = self.members.iter().find(|other| {
            let same = other.state.as_ref().is_ok_and(|state| {
                (&state.facts.started_at, &state.facts.system_identifier)
                    == (&facts.started_at, &facts.system_identifier)
            });
            other.shard == member.shard && other.member < member.member && same
        })?;
        let which = if twin.member == 0 {
            "the primary".to_owned()
        } else {
            format!("replica {}", twin.member)
        };
        let finding = self.warning("listed_twice", member);
        Some(
            finding
                .found(format!("the same server as {which}"))
                .degrades("it gets a double share of the reads"),
        )
    }

    fn two_phase(&self, member: &Member, facts: &ServerFacts) -> Option<Finding> {
        (facts.max_prepared_transactions == 0 && self.database.shards.len() > 1).then(|| {
            self.warning("max_prepared_transactions", member)
                .found("max_prepared_transactions = 0")
                .expected("at least the number of server connections, and a restart")
                .degrades(
                    "transactions that write on several shards cannot be committed in two phases",
                )
        })
    }

    fn synchronous(&self, member: &Member, facts: &ServerFacts) -> Option<Finding> {
        let names = &facts.synchronous_standby_names;
        (!names.is_empty()).then(|| {
            self.warning("synchronous_standbys", member)
                .found(format!("synchronous_standby_names = '{names}'"))
                .degrades(
                    "a replica may show a commit before the primary does; a session that reads from both may then see \
                     it vanish for a moment",
                )
        })
    }

    /// Where two servers that should answer alike do not.
    fn unlike(
        &self,
        member: &Member,
        facts: &ServerFacts,
        like: &ServerFacts,
        whose: &str,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let value =
            |map: &BTreeMap<String, String>, name: &str| map.get(name).cloned().unwrap_or_default();
        for name in like.settings.keys() {
            let (here, there) = (value(&facts.settings, name), value(&like.settings, name));
            if here != there && (member.member == 0 || name != NOT_FOR_REPLICAS) {
                let finding = self
                    .error("setting", member)
                    .found(format!("{name} = '{here}'"));
                findings.push(
                    finding
                        .expected(format!("'{there}' as on {whose}"))
                        .degrades("the same statement would be answered in different ways"),
                );
            }
        }
        for (name, there) in &like.locale {
            let here = facts
                .locale
                .get(name)
                .cloned()
                .flatten()
                .unwrap_or_default();
            let there = there.clone().unwrap_or_default();
            if here != there {
                let finding = self.error("locale", member).found(format!("{name} {here}"));
                findings.push(
                    finding
                        .expected(format!("{there} as on {whose}"))
                        .degrades("text sorts or compares otherwise"),
                );
            }
        }
        findings.extend(self.versions(member, facts, like, whose));
        findings
    }

    fn versions(
        &self,
        member: &Member,
        facts: &ServerFacts,
        like: &ServerFacts,
        whose: &str,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        if facts.version / 10_000 != like.version / 10_000 {
            findings.push(
                self.warning("version_differs", member)
                    .found(format!("PostgreSQL {}", facts.version_text))
                    .expected(format!("{} as on {whose}", like.version_text))
                    .degrades("functions and texts of errors differ between major versions"),
            );
        }
        if facts.collation_versions != like.collation_versions {
            findings.push(
                self.warning("collation_version", member)
                    .found(format!("collation libraries '{}'", facts.collation_versions))
                    .expected(format!("'{}' as on {whose}", like.collation_versions))
                    .degrades("some texts may sort otherwise; on a replica, indexes on text may be corrupt"),
            );
        }
        findings
    }

    /// Text keys are hashed as the bytes the client sent.
    fn encoding(&self, member: &Member, facts: &ServerFacts) -> Option<Finding> {
        let has_text = self
            .database
            .keyspaces
            .iter()
            .any(|keyspace| keyspace.types.contains(&KeyType::Text));
        let encoding = facts
            .locale
            .get("encoding")
            .cloned()
            .flatten()
            .unwrap_or_default();
        (has_text && !["UTF8", "SQL_ASCII"].contains(&encoding.as_str())).then(|| {
            self.error("encoding", member)
                .found(format!("a database in {encoding}"))
                .expected("UTF8, as a keyspace has text keys")
                .degrades(
                    "the bytes of a key would differ between client and server, and so its shard",
                )
        })
    }
}

/// Where the identifier is hidden, the moment of the start tells at least two addresses of one server.
fn same_cluster(one: &ServerFacts, other: &ServerFacts) -> bool {
    match (&one.system_identifier, &other.system_identifier) {
        (Some(one), Some(other)) => one == other,
        _ => one.started_at == other.started_at,
    }
}

fn place(member: &Member) -> Subject {
    Subject::Server {
        shard: member.shard,
        member: member.member,
    }
}
