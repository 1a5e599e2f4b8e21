module nitro

go 1.26
