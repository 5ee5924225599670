// Logger sends the lines of its standard input with github.com/fluent/fluent-logger-golang, each as a frame of its own, and says "sent 1"
// for each with which the library is content.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"time"

	"example.test/goforward/internal/lines"
	"github.com/fluent/fluent-logger-golang/fluent"
)

func main() {
	network := flag.String("network", "tcp", "tcp, tls (authorities: SSL_CERT_FILE) or unix")
	port := flag.Int("port", 0, "port on 127.0.0.1")
	path := flag.String("path", "", "Unix socket")
	tag := flag.String("tag", "esa1", "tag")
	ack := flag.Bool("ack", false, "ask for acknowledgements")
	exact := flag.Bool("exact", false, "EventTime instead of seconds")
	flag.Parse()
	log.SetFlags(0)

	client, err := fluent.New(fluent.Config{
		FluentNetwork: *network, FluentHost: "127.0.0.1", FluentPort: *port, FluentSocketPath: *path,
		RequestAck: *ack, SubSecondPrecision: *exact, Timeout: 2 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		MaxRetry: 100, RetryWait: 50, MaxRetryWait: 100,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	err = lines.Each(os.Stdin, func(line []byte) error {
		if err := client.PostWithTime(*tag, time.Unix(1_700_000_000, 123_456_789), lines.Record(line)); err != nil {
			return err
		}
		fmt.Println("sent 1")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
}
