//! Our own chains, as they are given to whoever asks.

use super::*;

#[test]
fn the_chain_is_that_of_the_name_asked_for_and_the_first_where_none_is() {
    let mut world = World::new();
    world.add_certificate("wild", &["*.plant.example"]);
    let profile = world.load();
    let file = |at: usize| fs::read_to_string(&world.settings.certificates[at].0).expect("reads");
    for (name, at) in [
        (None, 0),
        (Some("gate"), 0),
        (Some("GATE."), 0),
        (Some("pump-7.plant.example"), 1),
        (Some("*.plant.example"), 1),
    ] {
        assert_eq!(profile.chain_pem(name), Some(file(at)), "{name:?}");
    }
    for nobody in ["", "plant.example", "other.example", "a.b.plant.example"] {
        assert_eq!(profile.chain_pem(Some(nobody)), None, "{nobody:?}");
    }
}

#[test]
fn the_chain_has_all_certificates_in_order_and_nothing_else_of_its_file() {
    let mut world = World::new();
    let under = world.server_ca.intermediate("plant");
    let made = under.issue(&["deep"], 9, 2100);
    let key = made.key.serialize_pem();
    let text = format!("a remark\n{}{}{key}", made.pem, under.pem);
    let chain = world.directory.put("deep.pem", &text);
    let key = world.directory.put("deep.key", &key);
    world.settings.certificates = vec![(chain, key)];
    let expected = format!("{}{}", made.pem, under.pem);
    assert_eq!(world.load().chain_pem(None), Some(expected));
}

#[test]
fn a_renewed_profile_gives_its_own_chain_and_a_bad_file_changes_none() {
    let world = World::new();
    let mut renewal = Renewal::load(vec![world.settings.clone()]).expect("good files");
    let places: Vec<_> =
        renewal.named_slots().map(|(name, slot)| (name.to_owned(), slot.clone())).collect();
    let [(name, slot)] = &places[..] else { panic!("one profile") };
    assert_eq!(name, "door");
    let before = slot.current().chain_pem(None);
    let other = world.server_ca.issue(&["gate"], 9, 2100);
    world.directory.put("gate.pem", &other.pem);
    assert!(matches!(&renewal.check(false)[..], [Renewed::Refused(_)]));
    assert_eq!(slot.current().chain_pem(None), before);
    world.directory.put("gate.key", &other.key.serialize_pem());
    assert!(matches!(&renewal.check(false)[..], [Renewed::Changed { .. }]));
    assert_eq!(slot.current().chain_pem(None), Some(other.pem));
}
