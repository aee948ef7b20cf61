//! Settings of client and server that do not fit.

use krpc::{
    Error, Status,
    prelude::*,
    seal::{Key, Seal},
};
use krpc_core::{
    ids::InstanceId,
    transport::Topic,
    wire::{
        frame::Refused,
        packet::{Header, Routes},
    },
};

use super::{Scene, key};
use crate::support::{
    Place, eventually, scenario,
    services::{Adder, SumClient, SumServer},
    start,
};

/// What a call ends with; within its deadline, or the scenario would not end.
async fn fails(place: &Place, client: Option<Seal>, server: Option<Seal>) -> Status {
    let mut builder = place.server();
    if let Some(seal) = server {
        builder = builder.seal(seal);
    }
    let server = start(builder.serve(SumServer::new(Adder))).await;
    let mut builder = place.channel();
    if let Some(seal) = client {
        builder = builder.seal(seal);
    }
    let channel = builder.connect().await.unwrap();
    // A password takes its time.
    channel.open("Sum").await.unwrap();
    let ended = SumClient::new(&channel).add(1, 2).timeout(secs(2)).await;
    let Err(Error::Status(status)) = ended else { panic!("{ended:?}") };
    drop(server);
    status
}

#[track_caller]
fn assert_told(status: &Status, words: &[&str]) {
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    for word in words {
        assert!(status.message().contains(word), "{status} has no {word:?}");
    }
}

fn encrypted() -> Seal {
    Seal::new().encrypt(key())
}

#[test]
fn a_client_that_encrypts_learns_that_the_server_does_not() {
    scenario(async |place| {
        let status = fails(&place, Some(encrypted()), None).await;
        assert_told(&status, &["a server says", "opens nothing"]);
    });
}

#[test]
fn a_client_that_does_not_encrypt_learns_that_the_server_demands_it() {
    scenario(async |place| {
        let status = fails(&place, None, Some(encrypted())).await;
        assert_told(&status, &["a server says", "protected less well"]);
    });
}

#[test]
fn a_client_with_another_key_learns_that_it_is_not_known() {
    scenario(async |place| {
        let other = Key::from_bytes([8; 32]).unwrap();
        let status = fails(&place, Some(Seal::new().encrypt(other)), Some(encrypted())).await;
        assert_told(&status, &["a server says", "key ", "is not known"]);
    });
}

#[test]
fn a_client_with_another_password_learns_that_its_key_is_not_known() {
    scenario(async |place| {
        let [ours, theirs] = ["one password", "another"].map(|it| Seal::new().password(it));
        let status = fails(&place, Some(ours), Some(theirs)).await;
        assert_told(&status, &["a server says", "key ", "is not known"]);
    });
}

#[test]
fn verifying_and_encrypting_do_not_fit_and_both_ways_are_told() {
    scenario(async |place| {
        let status = fails(&place, Some(Seal::new().verify(key())), Some(encrypted())).await;
        assert_told(&status, &["a server says", "protected less well"]);
    });
    // The call is executed, for it is protected better than is demanded; its answer is not.
    scenario(async |place| {
        let status = fails(&place, Some(encrypted()), Some(Seal::new().verify(key()))).await;
        assert_told(&status, &["cannot be opened here", "protected less well"]);
    });
}

/// Anybody can say that a packet was refused.
#[test]
fn a_forged_refusal_ends_no_call() {
    scenario(async |place| {
        let scene = Scene::new(&place, encrypted()).await;
        let before = scene.dropped();
        let call = tokio::spawn(scene.work.slow(0, 300).timeout(secs(50)));
        eventually("the call runs", || scene.worker.log.running() == 1).await;
        for sequence in 0..100 {
            let mut packet = Vec::new();
            let (sender, destination) = (InstanceId::from_bytes([3; 16]), scene.channel.instance());
            Header { sender, destination, sequence, reply_to: Routes::new() }.encode(&mut packet);
            Refused { cause: 2, key: 7 }.encode(&mut packet).unwrap();
            scene.write(Topic::Replies, 0, &packet);
            // Together with an answer it is none.
            packet.extend_from_slice(&[4, 5, 0, 0, 0, 0, 0]);
            scene.write(Topic::Replies, 0, &packet);
        }
        assert_eq!(call.await.unwrap(), Ok(0));
        scene.until_dropped(before, (0, 100)).await;
    });
}
