//! Why a message is refused.

/// A message from the other side that this side does not believe. Names the field, as the .proto writes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConvertError {
    /// A field that must be there is absent, or an enum has a value unknown here.
    #[error("{0} is missing or unknown")]
    Missing(&'static str),
    /// A list or text is longer than allowed.
    #[error("{field} has {length} items or bytes, at most {max} are allowed")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// A number does not fit its id, or a list does not keep its order or length.
    #[error("{0} is out of range or inconsistent")]
    OutOfRange(&'static str),
    /// A text is no socket address.
    #[error("{0} is not IP:PORT")]
    Address(&'static str),
}
