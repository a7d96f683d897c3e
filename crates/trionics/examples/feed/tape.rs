//! The prices that the exchange replays: `stocks.csv`, over and over.

use std::collections::BTreeMap;

use crate::protocol::Symbol;

/// `stocks.csv` of the [Vega data sets](https://github.com/vega/vega-datasets): the monthly prices of five companies from 2000 to 2010.
const STOCKS: &str = include_str!("stocks.csv");

/// The prices of every symbol, as endless tapes that are read by tick number.
#[derive(Debug)]
pub(crate) struct Tape {
    prices: BTreeMap<Symbol, Vec<f64>>,
}

impl Tape {
    pub(crate) fn load() -> Self {
        Self::parse(STOCKS).expect("stocks.csv is well-formed")
    }

    /// The price of the tick with this number, which counts from 1, or `None` if nobody trades this symbol.
    pub(crate) fn price(&self, symbol: Symbol, number: u64) -> Option<f64> {
        let prices = self.prices.get(&symbol)?;
        let index = number.checked_sub(1)? % prices.len() as u64;
        Some(prices[index as usize])
    }

    pub(crate) fn has(&self, symbol: Symbol) -> bool {
        self.prices.contains_key(&symbol)
    }

    pub(crate) fn symbols(&self) -> impl Iterator<Item = Symbol> {
        self.prices.keys().copied()
    }

    fn parse(csv: &str) -> Option<Self> {
        let mut prices = BTreeMap::<Symbol, Vec<f64>>::new();
        for row in csv.lines().skip(1) {
            let mut cells = row.split(',');
            let (symbol, _month, price) = (cells.next()?, cells.next()?, cells.next()?);
            prices
                .entry(symbol.parse().ok()?)
                .or_default()
                .push(price.parse().ok()?);
        }
        Some(Tape { prices })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tape_starts_again_at_its_end() {
        let tape = Tape::parse("symbol,date,price\nF,Jan 1 2000,1.5\nF,Feb 1 2000,2.5\n").unwrap();
        let symbol = "F".parse().unwrap();
        let prices: Vec<_> = (1..=5)
            .map(|number| tape.price(symbol, number).unwrap())
            .collect();
        assert_eq!(prices, [1.5, 2.5, 1.5, 2.5, 1.5]);
        assert_eq!(tape.price(symbol, 0), None);
        assert_eq!(tape.price("GM".parse().unwrap(), 1), None);
    }

    #[test]
    fn all_five_companies_are_there() {
        let symbols: Vec<_> = Tape::load()
            .symbols()
            .map(|symbol| symbol.to_string())
            .collect();
        assert_eq!(symbols, ["AAPL", "AMZN", "GOOG", "IBM", "MSFT"]);
    }

    #[test]
    fn a_bad_row_is_noticed() {
        assert!(Tape::parse("symbol,date,price\nF,Jan 1 2000,much\n").is_none());
        assert!(Tape::parse("symbol,date,price\nF,Jan 1 2000\n").is_none());
    }
}
