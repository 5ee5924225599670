import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** {@code SERVERS TOPIC}: sends a record for each line of standard input, with the line as its key, and says {@code PARTITION KEY}. */
public final class JavaProducer {
  private JavaProducer() {}

  public static void main(String[] args) throws Exception {
    Map<String, Object> settings = Map.of(
        "bootstrap.servers", args[0],
        "key.serializer", StringSerializer.class,
        "value.serializer", StringSerializer.class);
    BufferedReader keys = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
      for (String key = keys.readLine(); key != null; key = keys.readLine()) {
        System.out.println(producer.send(new ProducerRecord<>(args[1], key, "")).get().partition() + " " + key);
      }
    }
  }
}
