use crate::Result;

pub(crate) fn run() -> Result<()> {
    Ok(())
}

pub(crate) fn opening() -> Result<()> {
    Ok(())
}
