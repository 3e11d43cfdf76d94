// Prints how many bytes compress/gzip makes of the standard input at level 6: the measure
// that image tools written in Go have set.
package main

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"os"
)

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func main() {
	var size counter
	writer, err := gzip.NewWriterLevel(&size, 6)
	if err == nil {
		_, err = io.Copy(writer, bufio.NewReaderSize(os.Stdin, 1<<20))
	}
	if err == nil {
		err = writer.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(int64(size))
}
