//! From values of the program to JSON text.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};

use super::{
    JsonError,
    JsonErrorKind::{NotFinite, Unserializable},
};

/// The JSON text of a value, as serde_json writes it.
///
/// serde_json writes infinities and NaN as `null`, so that three different amounts would be one. They are looked for
/// first, and refused.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, JsonError> {
    value.serialize(FiniteOnly).map_err(|Refused(kind)| JsonError::new(kind, 0))?;
    serde_json::to_vec(value).map_err(|_| JsonError::new(Unserializable, 0))
}

/// Walks through a value, writes nothing, and stops at the first float that JSON cannot say.
struct FiniteOnly;

#[derive(Debug)]
struct Refused(super::JsonErrorKind);

/// What a value says about itself may hold its content, so it is dropped.
impl ser::Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(Unserializable)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        JsonError::new(self.0, 0).fmt(f)
    }
}

impl std::error::Error for Refused {}

const FINE: Result<(), Refused> = Ok(());
const INSIDE: Result<FiniteOnly, Refused> = Ok(FiniteOnly);

macro_rules! nothing_to_look_at {
    ($($method:ident($($argument:ty),*);)*) => {$(
        fn $method(self $(, _: $argument)*) -> Result<(), Refused> {
            FINE
        }
    )*};
}

impl Serializer for FiniteOnly {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fn serialize_f32(self, float: f32) -> Result<(), Refused> {
        if float.is_finite() { FINE } else { Err(Refused(NotFinite)) }
    }

    fn serialize_f64(self, float: f64) -> Result<(), Refused> {
        if float.is_finite() { FINE } else { Err(Refused(NotFinite)) }
    }

    nothing_to_look_at! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self, Refused> {
        INSIDE
    }

    fn serialize_tuple(self, _: usize) -> Result<Self, Refused> {
        INSIDE
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        INSIDE
    }

    fn serialize_tuple_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Refused> {
        INSIDE
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Refused> {
        INSIDE
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Refused> {
        INSIDE
    }

    fn serialize_struct_variant(self, _: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self, Refused> {
        INSIDE
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Refused> {
        FINE
    }
}

macro_rules! look_at_each {
    ($($part:ident :: $method:ident($($name:ty)?);)*) => {$(
        impl ser::$part for FiniteOnly {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self $(, _: $name)?, value: &T) -> Result<(), Refused> {
                value.serialize(FiniteOnly)
            }

            fn end(self) -> Result<(), Refused> {
                FINE
            }
        }
    )*};
}

look_at_each! {
    SerializeSeq::serialize_element();
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(&'static str);
    SerializeStructVariant::serialize_field(&'static str);
}

impl ser::SerializeMap for FiniteOnly {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        key.serialize(Self)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        value.serialize(Self)
    }

    fn end(self) -> Result<(), Refused> {
        FINE
    }
}
