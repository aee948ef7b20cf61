// What tests/golden/input/many_mistakes.rs becomes.

::core::compile_error! {
    "unknown option `nmae` of a service: there are `name`, `version`, `crate`; did you mean `name`?"
}
::core::compile_error! {
    "`max` is the number of executions in all, from 1 to 100: `max = 5`"
}
::core::compile_error! {
    "an argument is one plain name: take it apart in the implementation"
}
::core::compile_error! {
    "a method is asynchronous: write `async fn`"
}
::core::compile_error! {
    "an argument is decoded from a message, so it cannot be borrowed: take `String`"
}
::core::compile_error! {
    "a result is sent in a message, so it cannot be borrowed: return `String`"
}
pub trait Bad: ::core::marker::Sized {
    fn fine(
        &self,
        x: u8,
    ) -> impl ::core::future::Future<Output = u8> + ::core::marker::Send;
    fn blocking(&self, x: &str, y: u8) -> u8;
    fn again(
        &self,
        _: (u8, u8),
    ) -> impl ::core::future::Future<Output = &str> + ::core::marker::Send;
}
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct BadClient;
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl BadClient {
    pub async fn connect(
        _: impl ::core::convert::AsRef<str>,
    ) -> ::core::result::Result<Self, ::krpc::SetupError> {
        ::core::unreachable!()
    }
    pub fn new(_: &::krpc::Channel) -> Self {
        ::core::unreachable!()
    }
    pub fn local<S>(_: S) -> Self {
        ::core::unreachable!()
    }
    pub fn attach<T, E>(&self, _: &::krpc::Ticket<T, E>) -> ::krpc::Attach<T, E> {
        ::core::unreachable!()
    }
    pub async fn status<T, E>(
        &self,
        _: &::krpc::Ticket<T, E>,
    ) -> ::core::result::Result<::krpc::TicketStatus, ::krpc::Error> {
        ::core::unreachable!()
    }
    pub async fn cancel<T, E>(
        &self,
        _: &::krpc::Ticket<T, E>,
    ) -> ::core::result::Result<(), ::krpc::Error> {
        ::core::unreachable!()
    }
    /// Calls `Bad/fine`.
    pub fn fine(&self, x: u8) -> ::krpc::Call<u8> {
        ::core::unreachable!()
    }
    pub fn blocking(
        &self,
        _: impl ::core::marker::Sized,
        _: impl ::core::marker::Sized,
    ) -> ::krpc::Call<u8> {
        ::core::unreachable!()
    }
    pub fn again(
        &self,
        _: impl ::core::marker::Sized,
    ) -> ::krpc::Call<
        [(); ::core::compile_error! {
            "a result is sent in a message, so it cannot be borrowed: return `String`"
        }],
        [(); ::core::compile_error! {
            "a result is sent in a message, so it cannot be borrowed: return `String`"
        }],
    > {
        ::core::unreachable!()
    }
}
#[derive(::core::clone::Clone, ::core::fmt::Debug)]
pub struct BadServer<S>(::core::marker::PhantomData<S>);
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S> BadServer<S> {
    pub fn new(_: S) -> Self {
        ::core::unreachable!()
    }
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S> ::core::convert::From<::std::sync::Arc<S>> for BadServer<S> {
    fn from(_: ::std::sync::Arc<S>) -> Self {
        ::core::unreachable!()
    }
}
#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)]
impl<S: ::core::marker::Send + ::core::marker::Sync + 'static> ::krpc::rt::Service
for BadServer<S> {
    fn descriptor(&self) -> &'static ::krpc::rt::ServiceDescriptor {
        ::core::unreachable!()
    }
    fn dispatch(&self, _: ::krpc::rt::Incoming) {
        ::core::unreachable!()
    }
}
