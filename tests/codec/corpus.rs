//! Every file of the fuzz corpus, through the invariants its fuzz target checks, without a fuzzer.
//!
//! `fuzz/invariants/<target>.rs` has `pub fn check(data: &[u8])`, which panics where an invariant
//! does not hold; `fuzz/corpus/<target>/` has the inputs.

use std::fs;
use std::path::Path;

#[path = "../../fuzz/invariants/avro.rs"]
pub mod avro;
#[path = "../../fuzz/invariants/doors.rs"]
mod doors;
#[path = "../../fuzz/invariants/kp1.rs"]
pub mod kp1;
#[path = "../../fuzz/invariants/mqtt.rs"]
pub mod mqtt;
#[path = "../../fuzz/invariants/nats.rs"]
pub mod nats;

#[test]
fn the_avro_corpus_holds_its_invariants() {
    replay("avro", avro::check);
}

#[test]
fn the_doors_corpus_holds_its_invariants() {
    replay("doors", doors::check);
}

#[test]
fn the_kp1_corpus_holds_its_invariants() {
    replay("kp1", kp1::check);
}

#[test]
fn the_mqtt_corpus_holds_its_invariants() {
    replay("mqtt", mqtt::check);
}

#[test]
fn the_nats_corpus_holds_its_invariants() {
    replay("nats", nats::check);
}

fn replay(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("a corpus folder") {
        let path = entry.expect("a readable folder").path();
        // Captured unless the test fails; then the last one printed is the culprit.
        println!("{}", path.display());
        check(&fs::read(&path).expect("a readable input"));
        inputs += 1;
    }
    assert!(inputs > 0, "{} is empty", folder.display());
}
