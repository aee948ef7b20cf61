//! A program that uses only a part of what is generated, or none, gets no warning.

#![deny(warnings)]

mod calls {
    #[krpc::service]
    pub trait OnlyCalled {
        async fn f(&self, x: u8) -> u8;
    }

    pub async fn use_it(client: &OnlyCalledClient) {
        let _ = client.f(1).await;
    }
}

mod serves {
    #[krpc::service]
    pub(crate) trait OnlyServed {
        async fn f(&self, x: u8) -> u8;
    }

    pub(crate) struct Imp;

    impl OnlyServed for Imp {
        async fn f(&self, x: u8) -> u8 {
            x
        }
    }
}

mod neither {
    #[krpc::service]
    trait Unused {
        async fn f(&self, x: u8) -> Result<u8, String>;
    }

    #[krpc::service]
    trait Empty {}
}

fn main() {
    let _ = calls::use_it;
    let _ = serves::OnlyServedServer::new(serves::Imp);
}
