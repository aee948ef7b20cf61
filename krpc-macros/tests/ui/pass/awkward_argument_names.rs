//! Arguments named as generated code might name its own.

#[krpc::service]
trait Names {
    async fn f(&self, self_: u8, service: u8, call: u8, cx: u8, args: u8, inner: u8) -> Vec<u8>;
}

struct Imp;

impl Names for Imp {
    async fn f(&self, self_: u8, service: u8, call: u8, cx: u8, args: u8, inner: u8) -> Vec<u8> {
        vec![self_, service, call, cx, args, inner]
    }
}

#[tokio::main]
async fn main() {
    let names = NamesClient::local(Imp);
    assert_eq!(names.f(1, 2, 3, 4, 5, 6).await.unwrap(), [1, 2, 3, 4, 5, 6]);
}
