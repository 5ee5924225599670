package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/fluent/fluent-logger-golang/fluent"
)

// logger sends each line as a frame of its own and says "sent" for it when the library is content.
func logger(arguments []string) error {
	flags := flag.NewFlagSet("logger", flag.ExitOnError)
	network := flags.String("network", "tcp", "tcp, tls (authorities: SSL_CERT_FILE) or unix")
	port := flags.Int("port", 0, "port on 127.0.0.1")
	path := flags.String("path", "", "Unix socket")
	tag := flags.String("tag", "esa1", "tag")
	ack := flags.Bool("ack", false, "ask for acknowledgements")
	exact := flags.Bool("exact", false, "EventTime instead of seconds")
	_ = flags.Parse(arguments)

	client, err := fluent.New(fluent.Config{
		FluentNetwork: *network, FluentHost: "127.0.0.1", FluentPort: *port, FluentSocketPath: *path,
		RequestAck: *ack, SubSecondPrecision: *exact, Timeout: 2 * time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second,
		MaxRetry: 100, RetryWait: 50, MaxRetryWait: 100,
	})
	if err != nil {
		return err
	}
	defer client.Close()
	return eachLine(os.Stdin, func(line []byte) error {
		if err := client.PostWithTime(*tag, time.Unix(1_700_000_000, 123_456_789), recordOf(line)); err != nil {
			return err
		}
		fmt.Println("sent 1")
		return nil
	})
}
