//! What a stranger reads.

use krpc::seal::Seal;
use krpc_core::transport::Topic;

use super::{Scene, key};
use crate::support::scenario;

const SECRET: &str = "the crown jewels are in the cellar";
const TOPICS: [Topic; 2] = [Topic::Calls, Topic::Replies];

/// Whether a text is anywhere in the topics of `Echo`.
fn is_seen(scene: &Scene, text: &str) -> bool {
    let text = text.as_bytes();
    TOPICS.iter().flat_map(|topic| (0..4).map(move |it| (*topic, it))).any(|(topic, partition)| {
        let records = scene.broker.recorded("Echo", topic, partition);
        records.iter().any(|record| record.windows(text.len()).any(|part| part == text))
    })
}

async fn seen(place: &crate::support::Place, seal: Seal) -> [bool; 3] {
    let scene = Scene::new(place, seal).await;
    for _ in 0..10 {
        let answer = scene.echo.echo(SECRET.to_owned()).await;
        assert_eq!(answer, Ok(format!("{SECRET}, again")));
    }
    [SECRET, ", again", "Echo/echo"].map(|text| is_seen(&scene, text))
}

#[test]
fn what_is_encrypted_shows_no_argument_no_value_and_no_method() {
    scenario(async |place| {
        assert_eq!(seen(&place, Seal::new().encrypt(key())).await, [false; 3]);
    });
    scenario(async |place| {
        assert_eq!(seen(&place, Seal::new().compress(3).encrypt(key())).await, [false; 3]);
    });
}

/// Or the one above would prove nothing.
#[test]
fn what_is_verified_can_be_read() {
    scenario(async |place| {
        assert_eq!(seen(&place, Seal::new().verify(key())).await, [true; 3]);
    });
}
