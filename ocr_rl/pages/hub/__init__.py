"""Pages as rows of tables, as data sets lie on hubs: `rows` writes them, `parquet` and `imported` read them."""
