//! What putting rows of several shards together costs: `cargo bench --bench merge`. 10,000 rows of four shards.

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgshunt::exec::merge::{Combiner, Formats, Run, Step, Stream};
use pgshunt::route::Combination;
use pgshunt::route::combine::{Aggregate, Fold, Groups, Place, Reading, Sent, SortKey, Source};
use pgshunt::wire::build;
use std::hint::black_box;
use std::sync::Arc;

const SHARDS: usize = 4;
const ROWS: usize = 10_000;

/// Rows `(number, name, text of the send function)`, each shard's in order.
fn streams() -> Vec<Stream> {
    (0..SHARDS)
        .map(|shard| {
            let mut stream = Stream {
                ended: true,
                ..Stream::default()
            };
            for n in (shard..ROWS).step_by(SHARDS) {
                let sent = format!("\\x{:016x}", n as u64);
                build::text_row(
                    &mut stream.buffer,
                    &[&n.to_string(), &format!("row number {n}"), &sent],
                );
            }
            stream
        })
        .collect()
}

fn run(made: Combination) -> Arc<Run> {
    Arc::new(Run {
        made: Arc::new(made),
        formats: Formats::AllText,
        limit: None,
        offset: 0,
        unedited: None,
    })
}

fn by(place: Place, reading: Reading) -> Combination {
    Combination {
        hidden: 1,
        order: vec![SortKey {
            value: Source { place, reading },
            descending: false,
            nulls_first: false,
        }],
        ..Combination::default()
    }
}

fn grouped() -> Combination {
    let aggregate = Aggregate {
        place: Place::Visible(0),
        fold: Fold::AddInteger,
    };
    Combination {
        hidden: 1,
        groups: Some(Groups {
            keys: vec![Place::Visible(1)],
            aggregates: vec![aggregate],
        }),
        ..Combination::default()
    }
}

fn merging(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    group.throughput(Throughput::Elements(ROWS as u64));
    let cases = [
        ("by an integer", by(Place::Visible(0), Reading::Integer)),
        (
            "by a hidden timestamp",
            by(Place::Hidden(0), Reading::Sent(Sent::Timestamp)),
        ),
        ("groups", grouped()),
    ];
    for (name, made) in cases {
        let run = run(made);
        group.bench_function(name, |b| {
            b.iter_batched(
                streams,
                |mut streams| {
                    let mut out = BytesMut::with_capacity(1 << 20);
                    let mut combiner = Combiner::new(run.clone(), SHARDS, 64 << 20);
                    let step = combiner.step(&mut streams, &mut out, usize::MAX);
                    assert_eq!(step, Ok(Step::Done));
                    black_box(out.len())
                },
                criterion::BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, merging);
criterion_main!(benches);
