//! A trait in a function, with types that only the function knows.

#[tokio::main]
async fn main() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Local(u8);

    #[krpc::service]
    trait Inside {
        async fn f(&self, x: Local) -> Result<Local, Local>;
    }

    struct Imp;

    impl Inside for Imp {
        async fn f(&self, x: Local) -> Result<Local, Local> {
            Err(x)
        }
    }

    let error = InsideClient::local(Imp).f(Local(7)).await.err().unwrap();
    assert!(matches!(error, krpc::Error::App(Local(7))));
}
