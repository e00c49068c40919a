//! A writer's schema resolved to the reader's, as a program that moves values from a record into columns.

use super::columns::{Nothing, Sink};
use super::cursor::{Cursor, Fault, Faulty};
use super::defaults::{self, Constant};
use crate::quarantine::Reason;

/// What to read, as what to append it.
#[derive(Debug)]
pub(super) enum Op {
    Null,
    Boolean,
    Int,
    IntToLong,
    IntToFloat,
    IntToDouble,
    Long,
    LongToFloat,
    LongToDouble,
    Float,
    FloatToDouble,
    Double,
    /// Text, from a string or from bytes that must be UTF-8.
    Text,
    Bytes,
    /// Bytes from a string, which is checked to be one.
    TextToBytes,
    Fixed(usize),
    /// A decimal of at most so many digits in bytes.
    Decimal(u32),
    /// A decimal in so many bytes, of at most so many digits.
    FixedDecimal(usize, u32),
    /// The writer's symbols.
    Enum(Vec<Symbol>),
    Array(Box<Op>),
    Map(Box<Op>),
    Union(Vec<Op>),
    /// A record of [`Program::records`].
    Record(usize),
    /// A branch of a union that the reader has no place for.
    Refuse(String),
}

/// A symbol of a writer's enum.
#[derive(Debug)]
pub(super) struct Symbol {
    pub(super) written: String,
    /// What it is to the reader; `None` if the reader has neither the symbol nor a default.
    pub(super) read: Option<String>,
}

/// A writer's record.
#[derive(Debug, Default)]
pub(super) struct Record {
    /// The writer's fields, in order.
    pub(super) fields: Vec<FieldOp>,
    /// Parts of the sink that the writer has no field for.
    pub(super) missing: Vec<(usize, Constant)>,
}

/// A writer's field.
#[derive(Debug)]
pub(super) struct FieldOp {
    pub(super) name: String,
    pub(super) op: Op,
    /// The part of the sink that takes it; `None` if nothing does.
    pub(super) part: Option<usize>,
}

/// A whole program.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) root: Op,
    pub(super) records: Vec<Record>,
}

impl Program {
    /// Decodes the body of one record, all of it, into `sink`. After a fault, the sink may hold parts of the record.
    pub(super) fn decode<'a, S: Sink<'a>>(&'a self, body: &'a [u8], sink: &mut S) -> Faulty<()> {
        let mut cursor = Cursor::new(body);
        self.run(&self.root, &mut cursor, sink)?;
        match cursor.left() {
            0 => Ok(()),
            left => Err(Fault::new(Reason::TrailingBytes, format!("{left} bytes are left after the last field"))),
        }
    }

    fn run<'a, S: Sink<'a>>(&'a self, op: &'a Op, cursor: &mut Cursor<'a>, sink: &mut S) -> Faulty<()> {
        match op {
            Op::Null => sink.null(),
            Op::Boolean => sink.boolean(cursor.boolean()?),
            Op::Int => sink.int(cursor.int()?),
            Op::IntToLong => sink.long(i64::from(cursor.int()?)),
            Op::IntToFloat => sink.float(cursor.int()? as f32),
            Op::IntToDouble => sink.double(f64::from(cursor.int()?)),
            Op::Long => sink.long(cursor.long()?),
            Op::LongToFloat => sink.float(cursor.long()? as f32),
            Op::LongToDouble => sink.double(cursor.long()? as f64),
            Op::Float => sink.float(cursor.float()?),
            Op::FloatToDouble => sink.double(f64::from(cursor.float()?)),
            Op::Double => sink.double(cursor.double()?),
            Op::Text => return sink.text(cursor.text()?),
            Op::Bytes => return sink.bytes(cursor.bytes()?),
            Op::TextToBytes => return sink.bytes(cursor.text()?.as_bytes()),
            Op::Fixed(size) => return sink.bytes(cursor.take(*size)?),
            Op::Decimal(precision) => sink.decimal(defaults::decimal(cursor.bytes()?, *precision).map_err(Fault::invalid)?),
            Op::FixedDecimal(size, precision) => {
                sink.decimal(defaults::decimal(cursor.take(*size)?, *precision).map_err(Fault::invalid)?);
            }
            Op::Enum(symbols) => return enumeration(symbols, cursor, sink),
            Op::Array(items) => return self.blocks(None, items, cursor, sink),
            Op::Map(values) => return self.blocks(Some(&Op::Text), values, cursor, sink),
            Op::Union(branches) => {
                let index = cursor.index(branches.len(), "union branch")?;
                let branch = branches.get(index).ok_or_else(|| Fault::invalid("union branch"))?;
                return self.run(branch, cursor, sink);
            }
            Op::Record(index) => return self.record(*index, cursor, sink),
            Op::Refuse(why) => return Err(Fault::invalid(why.clone())),
        }
        Ok(())
    }

    fn record<'a, S: Sink<'a>>(&'a self, index: usize, cursor: &mut Cursor<'a>, sink: &mut S) -> Faulty<()> {
        let record = self.records.get(index).ok_or_else(|| Fault::invalid("record"))?;
        cursor.enter()?;
        let before = cursor.left();
        sink.record();
        for field in &record.fields {
            let part = field.part.and_then(|part| sink.part(part));
            match part {
                Some(part) => self.run(&field.op, cursor, part),
                None => self.run(&field.op, cursor, &mut Nothing),
            }
            .map_err(|fault| fault.in_field(&field.name))?;
        }
        for (part, constant) in &record.missing {
            if let Some(part) = sink.part(*part) {
                constant.append(part)?;
            }
        }
        if cursor.left() == before {
            cursor.empty_value()?;
        }
        cursor.leave();
        Ok(())
    }

    /// The items of an array, or the keys and values of a map.
    fn blocks<'a, S: Sink<'a>>(&'a self, key: Option<&'a Op>, item: &'a Op, cursor: &mut Cursor<'a>, sink: &mut S) -> Faulty<()> {
        cursor.enter()?;
        while let Some((count, end)) = cursor.block()? {
            for _ in 0..count {
                let before = cursor.left();
                if let (Some(key), Some(part)) = (key, sink.part(0)) {
                    self.run(key, cursor, part)?;
                }
                if let Some(part) = sink.part(usize::from(key.is_some())) {
                    self.run(item, cursor, part)?;
                }
                // An empty record has counted itself.
                if cursor.left() == before && !matches!(item, Op::Record(_)) {
                    cursor.empty_value()?;
                }
            }
            if end.is_some_and(|end| end != cursor.left()) {
                return Err(Fault::invalid("a block is not as long as it says"));
            }
        }
        cursor.leave();
        sink.end()
    }
}

fn enumeration<'a, S: Sink<'a>>(symbols: &'a [Symbol], cursor: &mut Cursor<'a>, sink: &mut S) -> Faulty<()> {
    let index = cursor.index(symbols.len(), "enum symbol")?;
    let symbol = symbols.get(index).ok_or_else(|| Fault::invalid("enum symbol"))?;
    match &symbol.read {
        Some(read) => sink.text(read),
        None => Err(Fault::invalid(format!("the schema of the source has no symbol {:?}, and no default", symbol.written))),
    }
}
