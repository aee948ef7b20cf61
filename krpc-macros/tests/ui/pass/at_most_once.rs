//! Calls that are not executed twice.

#[krpc::service]
trait Pad {
    #[rpc(at_most_once)]
    async fn launch(&self, code: u32) -> bool;
    #[rpc(at_most_once, timeout = "30s")]
    async fn land(&self, code: u32) -> Result<(), String>;
    #[rpc(at_most_once, one_way)]
    async fn refuel(&self);
    #[rpc(at_most_once, key = pad)]
    async fn clear(&self, pad: u8);
    async fn look(&self);
}

struct Imp;

impl Pad for Imp {
    async fn launch(&self, code: u32) -> bool {
        code == 7
    }
    async fn land(&self, code: u32) -> Result<(), String> {
        if code == 7 { Ok(()) } else { Err("no".to_owned()) }
    }
    async fn refuel(&self) {}
    async fn clear(&self, _: u8) {}
    async fn look(&self) {}
}

#[tokio::main]
async fn main() {
    let service = PadServer::new(Imp);
    let methods = krpc::rt::Service::descriptor(&service).methods;
    let once: Vec<_> = methods.iter().map(|method| method.policy.at_most_once).collect();
    assert_eq!(once, [true, true, true, true, false]);
    let pad = PadClient::local(Imp);
    assert!(pad.launch(7).await.unwrap());
    assert!(pad.land(8).await.is_err());
    pad.clear(1).await.unwrap();
}
